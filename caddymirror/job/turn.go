package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
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
	Beat     int       `json:"beat,omitempty"` // how often it was renewed
}

// Times of turns.
const (
	// doubt is how long a turn has to stand before it is relied on: locks in files that
	// are slow to be written are taken for stale.
	doubt = 500 * time.Millisecond

	// lease is within how long a turn is renewed while its host lives. One that is not,
	// and whose time is up, is over, whatever clocks say.
	lease = 10 * time.Second
)

var (
	errTakenOver = errors.New("another host has taken over")
	errOverdue   = errors.New("its time is up")
)

// takeTurn keeps other hosts from running the job. It waits for none of them, but for
// the one whose time is up: that may be the fault of a clock.
func (x *execution) takeTurn(ctx context.Context) (release func(), err error) {
	mine, err := x.newTurn()
	if err != nil {
		return nil, err
	}
	var before turn
	err = x.noteTurn(ctx, func(last turn) (turn, error) {
		before = last
		return mine, x.mayFollow(last, mine)
	})
	if errors.Is(err, errOverdue) {
		err = x.follow(ctx, before, mine)
	}
	if err != nil {
		return nil, err
	}
	pause(ctx, doubt)
	last, err := x.lastTurn(ctx)
	if err != nil {
		return nil, err
	}
	if mine.isStill(last) != nil {
		return nil, fmt.Errorf("%w: host %s runs it", errBusy, last.Host)
	}
	x.turn = &mine
	stop := x.renewTurn(ctx, mine)
	return func() {
		stop()
		if x.left == 0 { // else a command is still at it
			x.endTurn(ctx, mine)
		}
	}, nil
}

func (x *execution) newTurn() (mine turn, err error) {
	id, err := caddy.InstanceID()
	if err != nil {
		return mine, fmt.Errorf("the ID of this Caddy: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return mine, err
	}
	// Hosts may have been made as copies of one.
	mine = turn{Instance: id.String() + "@" + host, Host: host, Run: x.rec.ID, Began: x.rec.Began}
	if !x.request.NoTimeout {
		mine.Until = mine.Began.Add(time.Duration(x.j.Timeout + x.j.Grace))
	}
	return mine, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// mayFollow makes sure that nothing of another host's turn can be left.
func (x *execution) mayFollow(last, mine turn) error {
	switch {
	case last.Run == "" || x.request.TakeOver:
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
	return errOverdue
}

// follow takes the turn after one whose time is up, if nobody renews that.
func (x *execution) follow(ctx context.Context, overdue, mine turn) error {
	pause(ctx, lease)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := x.noteTurn(ctx, func(last turn) (turn, error) {
		if overdue.isStill(last) != nil || last.Beat != overdue.Beat {
			return last, fmt.Errorf("%w: host %s runs it (%s, for longer than it may by our clock)", errBusy, last.Host, last.Run)
		}
		return mine, nil
	})
	if err == nil {
		x.j.log.Warn("a run on another host has never ended; its time is up", zap.String("host", overdue.Host), zap.String("run", overdue.Run))
	}
	return err
}

// isStill makes sure that nobody has taken over.
func (t turn) isStill(last turn) error {
	if last.Instance != t.Instance || last.Run != t.Run {
		return fmt.Errorf("%w: %s", errTakenOver, last.Host)
	}
	return nil
}

// renewTurn makes the turn last while the run does, and ends the run if another host
// has taken over.
func (x *execution) renewTurn(ctx context.Context, mine turn) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		for pause(ctx, lease/3); ctx.Err() == nil; pause(ctx, lease/3) {
			err := x.noteTurn(ctx, func(last turn) (turn, error) {
				mine.Beat++
				if until := time.Now().Round(0).Add(lease); !mine.Until.IsZero() && until.After(mine.Until) {
					mine.Until = until
				}
				return mine, mine.isStill(last)
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

// keepTurn makes sure, before something is released, that nobody has taken over. If
// the storage cannot be asked, nobody else can ask it either.
func (x *execution) keepTurn(ctx context.Context) error {
	if x.turn == nil {
		return nil
	}
	last, err := x.lastTurn(ctx)
	if err != nil {
		x.j.log.Warn("looking whose turn it is", zap.Error(err))
		return nil
	}
	return x.turn.isStill(last)
}

// endTurn notes the end of the turn.
func (x *execution) endTurn(ctx context.Context, mine turn) {
	err := x.noteTurn(context.WithoutCancel(ctx), func(last turn) (turn, error) { return turn{}, mine.isStill(last) })
	if err != nil && !errors.Is(err, errTakenOver) {
		logger().Error("the end of a job's run is not noted in Caddy's storage: other hosts wait until its time is up",
			zap.String("job", x.j.name), zap.Error(err))
	}
}
