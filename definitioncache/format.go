package definitioncache

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A copy outside of a process's memory is a line with format and checksum, a line
// of JSON, and the bytes, compressed:
//
//	bunting-definitions 1 <SHA-256 of all that follows this line, hexadecimal>
//	{"environment": …}
//	<gzip>
const (
	formatHead = "bunting-definitions "
	format     = "1 "
	firstLine  = len(formatHead) + len(format) + 2*sha256.Size + 1

	// maxHeader bounds the line of JSON: its names, and those of stores superseded.
	maxHeader = 1 << 20
)

type storedHeader struct {
	Key
	StoreID    string    `json:"store_id"`
	Revision   int64     `json:"revision"`
	Supersedes []string  `json:"supersedes,omitempty"`
	FetchedAt  time.Time `json:"fetched_at"`
	Size       int       `json:"size"` // of the bytes, uncompressed
}

// Encode writes what was received as a cache may keep it outside of this process:
// with format, checksum and header, compressed.
func Encode(received Received) ([]byte, error) {
	header, err := json.Marshal(storedHeader{
		Key: received.Key, StoreID: received.Revision.Store, Revision: received.Revision.Number,
		Supersedes: received.Supersedes, FetchedAt: received.FetchedAt.UTC(), Size: len(received.Body),
	})
	if err != nil {
		return nil, fmt.Errorf("write the header of the definitions: %w", err)
	}
	if len(header) > maxHeader {
		return nil, fmt.Errorf("%w: the header of the definitions has %d bytes, at most %d are shared", ErrTooLarge, len(header), maxHeader)
	}
	out := bytes.NewBuffer(make([]byte, firstLine, firstLine+len(header)+1+len(received.Body)/4))
	out.Write(header)
	out.WriteByte('\n')
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compress the definitions: %w", err)
	}
	_, err = zip.Write(received.Body)
	if err = errors.Join(err, zip.Close()); err != nil {
		return nil, fmt.Errorf("compress the definitions: %w", err)
	}
	value := out.Bytes()
	sum := sha256.Sum256(value[firstLine:])
	copy(value, formatHead+format)
	hex.Encode(value[len(formatHead)+len(format):], sum[:])
	value[firstLine-1] = '\n'
	return value, nil
}

// MaxStored is the most bytes that [Encode] makes, and [Decode] looks at.
const MaxStored = MaxSize + MaxSize/1000 + maxHeader + 1000

// Decode reads what [Encode] wrote, under the key that it was found with. Whatever
// else is found is refused with [ErrUnusable], in words, and costs no more memory than
// [MaxSize]. The copy's age is not in it.
func Decode(value []byte, key Key) (*Copy, error) {
	read, err := decode(value, key)
	if err != nil {
		return nil, fmt.Errorf("%w: it %w", ErrUnusable, err)
	}
	return read, nil
}

// decode is Decode; the error reads on from "it".
func decode(value []byte, key Key) (*Copy, error) {
	if len(value) > MaxStored {
		return nil, fmt.Errorf("has %d bytes, at most %d are read", len(value), MaxStored)
	}
	after, ours := bytes.CutPrefix(value, []byte(formatHead))
	if !ours {
		return nil, errors.New("was not written by this program or its like: something else uses the same place")
	}
	after, known := bytes.CutPrefix(after, []byte(format))
	if !known {
		version, _, _ := bytes.Cut(after, []byte(" "))
		return nil, fmt.Errorf("has the format %.10q, and this program knows %q: another version wrote it", version, "1")
	}
	if len(value) < firstLine || value[firstLine-1] != '\n' {
		return nil, errors.New("is cut off")
	}
	sum := sha256.Sum256(value[firstLine:])
	if string(after[:2*sha256.Size]) != hex.EncodeToString(sum[:]) {
		return nil, errors.New("is damaged or cut off: its checksum is not that of its content")
	}
	line, body, whole := bytes.Cut(value[firstLine:], []byte("\n"))
	if !whole || len(line) > maxHeader {
		return nil, fmt.Errorf("has no header of at most %d bytes", maxHeader)
	}
	var stored storedHeader
	if err := json.Unmarshal(line, &stored); err != nil {
		return nil, fmt.Errorf("has a header that cannot be read: %w", err)
	}
	read := &Copy{Header: Header{
		Key: stored.Key, Revision: Revision{Store: stored.StoreID, Number: stored.Revision},
		Supersedes: stored.Supersedes, FetchedAt: stored.FetchedAt,
	}}
	if err := read.Validate(key); err != nil {
		return nil, fmt.Errorf("is not what belongs here: %w", err)
	}
	var err error
	read.Body, err = decompress(body, stored.Size)
	return read, err
}

// decompress takes no more memory than there may be bytes, whatever the size says.
func decompress(body []byte, size int) ([]byte, error) {
	if size < 0 || size > MaxSize {
		return nil, fmt.Errorf("says that it has %d bytes, at most %d are shared", size, MaxSize)
	}
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot be decompressed: %w", err)
	}
	var out bytes.Buffer
	switch n, err := io.Copy(&out, io.LimitReader(zip, int64(size)+1)); {
	case err != nil:
		return nil, fmt.Errorf("cannot be decompressed: %w", err)
	case n != int64(size):
		return nil, fmt.Errorf("has another size than the %d bytes that it says", size)
	}
	return out.Bytes(), nil
}
