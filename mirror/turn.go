package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// turn is a host's turn to run a job, which hosts that share Caddy's storage note
// there. It lasts until the host notes the end or, if the host is killed, until the
// time of the run is up: what was started may live on for that long.
//
// The storage's own locks are held only while notes are read and written. They are not
// for runs: one ends with the server, and those of files are kept alive by servers that
// had them before, which then wait for a dead one for ever.
type turn struct {
	Instance string    `json:"instance"` // of Caddy
	Host     string    `json:"host"`
	Run      string    `json:"run"` // empty: nobody's turn
	Began    time.Time `json:"began"`
	Until    time.Time `json:"until,omitzero"` // zero: the run has all time
}

// Times of turns.
const (
	// lockPatience is how long to wait for others to read and write their notes.
	// One who was killed at it has a lock in files for ten seconds.
	lockPatience = 15 * time.Second
	lockRetry    = 100 * time.Millisecond

	// doubt is how long a turn has to stand before it is relied on: locks in files that
	// are slow to be written are taken for stale.
	doubt = 500 * time.Millisecond

	// lease is how long a turn lasts, at least, after it was renewed.
	lease = time.Minute
)

// takeTurn keeps other hosts from running the job. It waits for none of them.
func (x *execution) takeTurn(ctx context.Context) (release func(), err error) {
	id, err := caddy.InstanceID()
	if err != nil {
		return nil, fmt.Errorf("the ID of this Caddy: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	mine := turn{Instance: id.String(), Host: host, Run: x.rec.ID, Began: x.rec.Began}
	if !x.noTimeout {
		mine.Until = mine.Began.Add(time.Duration(x.j.Timeout + x.j.Grace))
	}
	if err := x.noteTurn(ctx, func(last turn) (turn, error) { return mine, x.mayFollow(last, mine) }); err != nil {
		return nil, err
	}
	select {
	case <-time.After(doubt):
	case <-ctx.Done():
	}
	if last, err := x.lastTurn(ctx); err != nil || mine.isStill(last) != nil {
		return nil, errors.Join(err, fmt.Errorf("%w: host %s runs it", errBusy, last.Host))
	}
	stop := x.renewTurn(ctx, mine)
	return func() {
		stop()
		if x.left != 0 {
			return // a command is still at it
		}
		err := x.noteTurn(context.WithoutCancel(ctx), func(last turn) (turn, error) { return turn{}, mine.isStill(last) })
		if err != nil {
			logger().Error("the end of a job's run is not noted in Caddy's storage: other hosts wait until its time is up",
				zap.String("job", x.j.name), zap.Error(err))
		}
	}, nil
}

// mayFollow makes sure that nothing of another host's turn can be left.
func (x *execution) mayFollow(last, mine turn) error {
	switch {
	case last.Run == "" || x.takeOver:
		return nil
	case last.Instance == mine.Instance: // was ended, and nothing of it lives: the local lock is free
		return nil
	case last.Until.IsZero():
		return fmt.Errorf("%w: host %s runs it (%s, without a timeout); if that host was killed and nothing of the run is left: caddy mirror run %s --take-over",
			errBusy, last.Host, last.Run, x.j.name)
	case time.Now().Before(last.Until):
		return fmt.Errorf("%w: host %s runs it (%s, until %s at the latest); if that host was killed and nothing of the run is left: caddy mirror run %s --take-over",
			errBusy, last.Host, last.Run, last.Until.Local().Format(time.DateTime), x.j.name)
	}
	x.j.log.Warn("a run on another host has never ended; its time is up", zap.String("host", last.Host), zap.String("run", last.Run))
	return nil
}

// isStill makes sure that nobody has taken over.
func (t turn) isStill(last turn) error {
	if last.Instance != t.Instance || last.Run != t.Run {
		return fmt.Errorf("%w: host %q", errTakenOver, last.Host)
	}
	return nil
}

var errTakenOver = errors.New("another host has taken over")

// renewTurn makes the turn last while the run does, and ends the run if another host
// has taken over.
func (x *execution) renewTurn(ctx context.Context, mine turn) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-time.After(lease / 3):
			case <-ctx.Done():
				return
			}
			err := x.noteTurn(ctx, func(last turn) (turn, error) {
				next := mine
				if until := time.Now().Round(0).Add(lease); !mine.Until.IsZero() && until.After(mine.Until) {
					next.Until = until
				}
				return next, mine.isStill(last)
			})
			switch {
			case errors.Is(err, errTakenOver):
				x.cancel(err)
				return
			case err != nil && ctx.Err() == nil:
				logger().Warn("renewing the turn of a job in Caddy's storage", zap.String("job", x.j.name), zap.Error(err))
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// noteTurn replaces the note of the job's last turn in Caddy's storage by another,
// unless f has something against it.
func (x *execution) noteTurn(ctx context.Context, f func(last turn) (turn, error)) error {
	unlock, err := lockStorage(ctx, x.j.storage, "mirror-job-"+x.j.name)
	if err != nil {
		return err
	}
	defer unlock()
	last, err := x.lastTurn(ctx)
	if err != nil {
		return err
	}
	next, err := f(last)
	if err != nil {
		return err
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = x.j.storage.Store(ctx, turnKey(x.j.name), text)
	}
	if err != nil {
		return fmt.Errorf("noting in Caddy's storage who runs the job: %w", err)
	}
	return nil
}

func turnKey(job string) string { return "mirror/jobs/" + job + ".json" }

// lastTurn is the note of the job's last turn.
func (x *execution) lastTurn(ctx context.Context) (last turn, err error) {
	text, err := x.j.storage.Load(ctx, turnKey(x.j.name))
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err != nil {
		return last, fmt.Errorf("looking in Caddy's storage who runs the job: %w", err)
	}
	return last, nil
}

// lockStorage takes a lock in Caddy's storage, for a moment.
func lockStorage(ctx context.Context, storage certmagic.Storage, name string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	// A lock in a file that is just being written cannot be read.
	for err := storage.Lock(ctx, name); err != nil; err = storage.Lock(ctx, name) {
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("locking %s in Caddy's storage: %w", name, err)
		}
	}
	return func() {
		if err := storage.Unlock(context.WithoutCancel(ctx), name); err != nil {
			logger().Error("unlocking a job in Caddy's storage", zap.String("lock", name), zap.Error(err))
		}
	}, nil
}
