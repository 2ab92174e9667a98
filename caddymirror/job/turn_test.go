package job

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// memory is storage in memory, and counts how its lock is used.
type memory struct {
	certmagic.Storage
	mu     sync.Mutex
	values map[string][]byte
	locked bool
	hang   chan struct{} // nil: it answers
	t      testing.TB
}

func (m *memory) lock(from bool) error {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		<-hang
		return errors.New("too late")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked != from {
		m.t.Errorf("locked twice, or unlocked twice")
	}
	m.locked = !from
	return nil
}
func (m *memory) Lock(context.Context, string) error   { return m.lock(false) }
func (m *memory) Unlock(context.Context, string) error { return m.lock(true) }

func (m *memory) Store(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.locked {
		m.t.Errorf("%s is written without a lock", key)
	}
	m.values[key] = value
	return nil
}

func (m *memory) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.values[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

// turn is the one that is noted.
func (m *memory) turn() (last turn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = json.Unmarshal(m.values["mirror/jobs/x.json"], &last)
	return last
}

func (m *memory) set(last turn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values["mirror/jobs/x.json"], _ = json.Marshal(last)
}

// TestTurn: what hosts with one storage tell each other of a job's runs.
func TestTurn(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	if _, err := caddy.InstanceID(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, values: map[string][]byte{}}
		job := testJob(t, "x", Job{Timeout: caddy.Duration(time.Hour), Grace: caddy.Duration(time.Minute)}, none)
		job.storage = m
		take := func(x *execution) (context.Context, func(), error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			x.j, x.cancel, x.asking = job, cancel, make(chan struct{}, 1)
			x.rec = &Run{ID: "run", Began: time.Now().Round(0)}
			release, err := x.takeTurn(ctx)
			return ctx, release, err
		}

		// A turn is noted, and its end.
		_, release, err := take(new(execution))
		if err != nil {
			t.Fatal(err)
		}
		if last := m.turn(); last.Run != "run" || !last.Until.Equal(last.Began.Add(61*time.Minute)) {
			t.Errorf("noted is %+v", last)
		}
		// It lasts while the run does.
		time.Sleep(2 * time.Hour)
		if last := m.turn(); last.Run != "run" || time.Until(last.Until) < lease/3 || time.Until(last.Until) > lease {
			t.Errorf("noted is %+v", last)
		}
		release()
		if last := m.turn(); last.Run != "" {
			t.Errorf("noted is %+v", last)
		}

		// Others are waited for until their time is up, or somebody knows better.
		other := turn{Instance: "other", Host: "b", Run: "theirs", Began: time.Now(), Until: time.Now().Add(time.Hour)}
		m.set(other)
		if _, _, err := take(new(execution)); !errors.Is(err, errBusy) || !strings.Contains(err.Error(), "host b runs it (theirs") {
			t.Errorf("the other's turn: %v", err)
		}
		if _, release, err = take(&execution{request: Request{TakeOver: true}}); err != nil {
			t.Fatal(err)
		}
		release()
		other.Until = time.Now().Add(time.Second)
		m.set(other)
		time.Sleep(2 * time.Second)
		start := time.Now()
		if _, release, err = take(new(execution)); err != nil || time.Since(start) < lease {
			t.Errorf("the other's time is up: %v, after %v", err, time.Since(start))
		}
		release()
		// It may be up by our clock only.
		m.set(other)
		beat := time.AfterFunc(lease/2, func() {
			alive := other
			alive.Beat++
			m.set(alive)
		})
		if _, _, err := take(new(execution)); !errors.Is(err, errBusy) || !strings.Contains(err.Error(), "for longer than it may by our clock") {
			t.Errorf("the other's clock is behind: %v", err)
		}
		beat.Stop()
		other.Until = time.Time{}
		m.set(other)
		time.Sleep(24 * time.Hour)
		if _, _, err := take(new(execution)); !errors.Is(err, errBusy) || !strings.Contains(err.Error(), "--take-over") {
			t.Errorf("the other has all time: %v", err)
		}

		// Without a timeout it is nobody else's turn, and one of our own that was
		// killed is no obstacle.
		x := &execution{request: Request{TakeOver: true, NoTimeout: true}}
		ctx, release, err := take(x)
		if err != nil || !m.turn().Until.IsZero() {
			t.Fatalf("%v, noted is %+v", err, m.turn())
		}
		ours := m.turn()

		// The one that is taken over releases nothing, and ends.
		if err := x.keepTurn(ctx); err != nil {
			t.Errorf("nobody has taken over: %v", err)
		}
		m.set(other)
		if err := x.keepTurn(ctx); !errors.Is(err, errTakenOver) {
			t.Errorf("taken over: %v", err)
		}
		time.Sleep(lease)
		if cause := context.Cause(ctx); !errors.Is(cause, errTakenOver) || !strings.HasSuffix(cause.Error(), ": b") {
			t.Errorf("taken over: %v", cause)
		}
		release()
		if last := m.turn(); last.Run != "theirs" {
			t.Errorf("noted is %+v", last)
		}
		m.set(ours)
		_, release, err = take(new(execution))
		if err != nil {
			t.Fatal(err)
		}

		// A vos that was left to finish is still at it.
		x = new(execution)
		release()
		if _, release, err = take(x); err != nil {
			t.Fatal(err)
		}
		x.left = 42
		release()
		if last := m.turn(); last.Run == "" {
			t.Error("the end is noted of a run that has left a command")
		}

		// A note that cannot be read is nobody's turn, if somebody says so.
		m.mu.Lock()
		m.values["mirror/jobs/x.json"] = []byte("garbage{")
		m.mu.Unlock()
		if _, _, err := take(new(execution)); err == nil || !strings.Contains(err.Error(), "mirror/jobs/x.json cannot be read") {
			t.Errorf("garbage: %v", err)
		}
		if _, release, err = take(&execution{request: Request{TakeOver: true}}); err != nil {
			t.Errorf("garbage, taking over: %v", err)
		}

		// Storage that hangs holds up neither the run nor its end for long.
		m.mu.Lock()
		m.hang = make(chan struct{})
		m.mu.Unlock()
		start = time.Now()
		time.Sleep(2 * lease)
		release()
		if took := time.Since(start); took > 2*lease+2*storagePatience {
			t.Errorf("the run ends after %v", took)
		}
		if _, _, err := take(new(execution)); !errors.Is(err, errStorageHangs) {
			t.Errorf("storage that hangs: %v", err)
		}
		close(m.hang)
	})
}
