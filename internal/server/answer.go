package server

import (
	"google.golang.org/protobuf/proto"
)

// maxAnswerBytes is how large one answer may be: as much as our client reads.
// One small question can name one large flag thousands of times, and the answer
// is held in memory whole, in JSON several times over.
const maxAnswerBytes = 128 << 20

// answerSize counts the bytes of an answer while it is put together.
type answerSize int

// add counts a part; the error is the call's.
func (s *answerSize) add(part proto.Message) error {
	if *s += answerSize(proto.Size(part)); *s > maxAnswerBytes {
		return invalid("the answer would be larger than %d MB, the most that one call gives. Ask for fewer at once", maxAnswerBytes>>20)
	}
	return nil
}
