package upstream

import "time"

// pace watches how fast a body comes: that no read takes too long, and that not too little
// comes over a while. Only waiting counts: a reader may be as slow as it wants.
type pace struct {
	timeout, window time.Duration
	least           int64 // bytes in window

	timer  *time.Timer // ends the request
	began  time.Time   // of the read under way
	waited time.Duration
	got    int64 // bytes, while waited
}

func (p *pace) begin(u *Upstream, a *answer) {
	if p.timer != nil {
		p.timer.Stop()
	}
	cancel := a.cancel
	timer := time.AfterFunc(time.Hour, func() { cancel(errStalled) })
	timer.Stop()
	*p = pace{timeout: u.readTimeout, window: u.rateWindow, least: u.minBytes, timer: timer}
}

// start is called before a read.
func (p *pace) start() {
	p.began = time.Now()
	p.timer.Reset(p.timeout)
}

// stop is called after a read, with the bytes that came. It tells whether these are too
// few.
func (p *pace) stop(n int) error {
	p.timer.Stop()
	p.waited += time.Since(p.began)
	p.got += int64(n)
	if p.waited < p.window {
		return nil
	}
	got := p.got
	p.waited, p.got = 0, 0
	if got < p.least {
		return errTrickle
	}
	return nil
}
