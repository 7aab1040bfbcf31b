package diskcopy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// A copy is a line that names the format, records, and the SHA-256 of all that.
// Each record is its length (an unsigned varint) and its bytes: the header and
// the tokens as JSON, the objects as bunting.v1.Object, as they cross the wire.
const (
	formatName = "bunting snapshot "
	format     = 1
	// The first line is shorter, in whatever format.
	maxFirstLine = 64
	bufferBytes  = 64 << 10
)

// header says what a copy is of and what follows it.
type header struct {
	Environment string    `json:"environment"`
	StoreID     string    `json:"store_id"`
	Revision    int64     `json:"revision"`
	Supersedes  []string  `json:"supersedes,omitempty"`
	WrittenAt   time.Time `json:"written_at"`
	Tokens      int       `json:"tokens"`
	Objects     int       `json:"objects"`
}

// keptToken is a token as the file has it: the store's JSON leaves the hash out.
type keptToken struct {
	token.Token

	Hash string `json:"hash"`
}

// write writes a copy.
func write(to io.Writer, c Copy) error {
	sum := sha256.New()
	out := &recordWriter{to: bufio.NewWriterSize(io.MultiWriter(to, sum), bufferBytes)}
	if _, err := fmt.Fprintf(out.to, "%s%d\n", formatName, format); err != nil {
		return err
	}
	flags, overrides, holds := c.Snapshot.Counts()
	err := out.json(header{
		Environment: c.Snapshot.Environment, StoreID: c.Snapshot.Revision.StoreID, Revision: c.Snapshot.Revision.Number,
		Supersedes: c.Snapshot.Supersedes, WrittenAt: c.WrittenAt.UTC(), Tokens: len(c.Tokens), Objects: flags + overrides + holds,
	})
	if err != nil {
		return err
	}
	for _, t := range c.Tokens {
		if err := out.json(keptToken{Token: t, Hash: t.Hash}); err != nil {
			return err
		}
	}
	for o := range c.Snapshot.Objects() {
		if err := out.message(wire.FromObject(o.Ref(), o)); err != nil {
			return err
		}
	}
	if err := out.to.Flush(); err != nil {
		return err
	}
	_, err = to.Write(sum.Sum(nil))
	return err
}

// recordWriter writes records.
type recordWriter struct {
	to     *bufio.Writer
	buffer []byte
}

func (w *recordWriter) record(content []byte) error {
	var length [binary.MaxVarintLen64]byte
	if _, err := w.to.Write(length[:binary.PutUvarint(length[:], uint64(len(content)))]); err != nil {
		return err
	}
	_, err := w.to.Write(content)
	return err
}

func (w *recordWriter) json(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.record(text)
}

func (w *recordWriter) message(m proto.Message) (err error) {
	if w.buffer, err = (proto.MarshalOptions{}).MarshalAppend(w.buffer[:0], m); err != nil {
		return err
	}
	return w.record(w.buffer)
}

// errFormat says that another version of bunting has written the file.
var errFormat = errors.New("another version has written it")

// read reads a copy of so many bytes. Nothing but the first line is looked at
// before the checksum was proven, and no record takes more memory than the file
// is long. The environment is the one that it must be of; "": any. The error says
// what is wrong with the file, to read on from its name.
func read(from io.ReaderAt, size int64, environment string) (*Copy, error) {
	first, err := firstLine(io.NewSectionReader(from, 0, size))
	if err != nil {
		return nil, err
	}
	end := size - sha256.Size
	if end < first {
		return nil, errors.New("is cut off: it ends before its checksum")
	}
	if err := prove(from, end); err != nil {
		return nil, err
	}
	in := &recordReader{from: bufio.NewReaderSize(io.NewSectionReader(from, first, end-first), bufferBytes), left: end - first}
	var h header
	if err := in.json(&h); err != nil {
		return nil, fmt.Errorf("cannot be read: its header: %w", err)
	}
	if environment != "" && h.Environment != environment {
		return nil, fmt.Errorf("is of the environment %q, but this server is of %q", h.Environment, environment)
	}
	if h.StoreID == "" {
		return nil, errors.New("cannot be read: its header names no store")
	}
	c := &Copy{WrittenAt: h.WrittenAt}
	for range h.Tokens {
		var t keptToken
		if err := in.json(&t); err != nil {
			return nil, fmt.Errorf("cannot be read: a token: %w", err)
		}
		t.Token.Hash = t.Hash
		c.Tokens = append(c.Tokens, t.Token)
	}
	at := flag.Revision{StoreID: h.StoreID, Number: h.Revision}
	c.Snapshot = flag.NewSnapshot(h.Environment, at).With(at, in.edits(h.Objects))
	c.Snapshot.Supersedes = h.Supersedes
	switch {
	case in.failed != nil:
		return nil, fmt.Errorf("cannot be read: %w", in.failed)
	case in.left != 0:
		return nil, fmt.Errorf("cannot be read: it goes on for %d bytes after its %d objects", in.left, h.Objects)
	}
	return c, nil
}

// firstLine checks the line that names the format and gives its length.
func firstLine(from io.Reader) (length int64, err error) {
	start := make([]byte, maxFirstLine)
	n, err := io.ReadFull(from, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("cannot be read: %w", err)
	}
	if n == 0 {
		return 0, errors.New("is empty")
	}
	line, _, whole := bytes.Cut(start[:n], []byte("\n"))
	number, ours := bytes.CutPrefix(line, []byte(formatName))
	found, err := strconv.ParseUint(string(number), 10, 31)
	switch {
	case !ours || !whole || err != nil:
		return 0, errors.New("is no copy that bunting has written, or its beginning is damaged")
	case found != format:
		return 0, fmt.Errorf("is of the format %d, but this bunting reads %d: %w", found, format, errFormat)
	}
	return int64(len(line)) + 1, nil
}

// prove compares what comes before the end with the checksum there.
func prove(from io.ReaderAt, end int64) error {
	sum, told := sha256.New(), make([]byte, sha256.Size)
	_, err := io.Copy(sum, io.NewSectionReader(from, 0, end))
	if err == nil {
		_, err = io.ReadFull(io.NewSectionReader(from, end, sha256.Size), told)
	}
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if !bytes.Equal(told, sum.Sum(nil)) {
		return errors.New("is damaged: it was altered or cut off, because its checksum is another one")
	}
	return nil
}

// recordReader reads records.
type recordReader struct {
	from   *bufio.Reader
	left   int64 // bytes
	buffer []byte
	failed error // why edits ended too soon; nil: they did not
}

// record gives the next record, good until the one after it is read.
func (r *recordReader) record() ([]byte, error) {
	length, err := binary.ReadUvarint(r.from)
	if err != nil {
		return nil, fmt.Errorf("it ends too soon: %w", err)
	}
	r.left -= int64(varintBytes(length))
	if r.left < 0 || length > uint64(r.left) {
		return nil, errors.New("a record is longer than the rest of the file")
	}
	r.left -= int64(length) //nolint:gosec // It is not more than what is left.
	if uint64(cap(r.buffer)) < length {
		r.buffer = make([]byte, length)
	}
	r.buffer = r.buffer[:length]
	_, err = io.ReadFull(r.from, r.buffer)
	return r.buffer, err
}

func varintBytes(n uint64) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], n)
}

func (r *recordReader) json(v any) error {
	text, err := r.record()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// edits gives so many objects. What goes wrong ends them, and is in failed.
func (r *recordReader) edits(count int) iter.Seq[flag.Edit] {
	return func(yield func(flag.Edit) bool) {
		for range count {
			edit, err := r.object()
			if r.failed = err; err != nil || !yield(edit) {
				return
			}
		}
	}
}

func (r *recordReader) object() (flag.Edit, error) {
	content, err := r.record()
	if err != nil {
		return flag.Edit{}, err
	}
	var m buntingv1.Object
	if err := proto.Unmarshal(content, &m); err != nil {
		return flag.Edit{}, err
	}
	edit, err := wire.ToObject(&m)
	if err == nil && edit.Object == nil {
		err = fmt.Errorf("it tells of the absence of %q", edit.Ref)
	}
	return edit, err
}
