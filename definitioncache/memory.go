package definitioncache

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// Memory is what the clients of one process share, and tests. [Memory.Join] gives
// each its [Cache].
type Memory struct {
	key    Key
	timing Timing
	now    func() time.Time

	mu    sync.Mutex // guards board and body
	board board
	body  []byte
}

// NewMemory makes the memory of one copy.
func NewMemory(key Key, timing Timing) (*Memory, error) {
	if err := validate(key, timing); err != nil {
		return nil, err
	}
	return &Memory{key: key, timing: timing, now: time.Now}, nil
}

// Join gives a client its part.
func (m *Memory) Join() Cache { return &memoryMember{memory: m, owner: rand.Text()} }

type memoryMember struct {
	memory *Memory
	owner  string
	ended  bool // guarded by memory.mu
}

func (m *memoryMember) ShouldFetch(ctx context.Context, need Need) (Turn, error) {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	if m.ended {
		return Follow, ErrShutdown
	}
	if err := ctx.Err(); err != nil {
		return Follow, err
	}
	return m.memory.board.turn(m.owner, need, m.memory.timing, m.memory.now()), nil
}

func (m *memoryMember) Definitions(ctx context.Context, known Revision) (*Copy, error) {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	if m.ended {
		return nil, ErrShutdown
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := m.memory.now()
	header, there := m.memory.board.header(m.memory.timing, now)
	if !there {
		return nil, nil //nolint:nilnil // That there is none is an answer.
	}
	found := &Copy{Header: header, Age: m.memory.board.age(m.memory.timing, now), Known: header.Revision == known}
	if !found.Known {
		found.Body = slices.Clone(m.memory.body)
	}
	return found, nil
}

func (m *memoryMember) DefinitionsReceived(ctx context.Context, received Received) error {
	if err := received.Validate(m.memory.key); err != nil {
		return err
	}
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	if m.ended {
		return ErrShutdown
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.memory.board.receive(m.owner, received, false, m.memory.timing, m.memory.now()); err != nil {
		return err
	}
	if !received.Unchanged {
		m.memory.body = slices.Clone(received.Body)
	}
	return nil
}

func (m *memoryMember) Shutdown(context.Context) error {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	m.ended = true
	m.memory.board.release(m.owner)
	return nil
}
