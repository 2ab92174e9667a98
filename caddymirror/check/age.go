package check

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// timestamps are the forms in which a timestamp.txt has the time: of the option timestamp
// of jobs and of date(1), with --iso-8601=ns, and others with seconds.
var timestamps = []string{time.RFC3339Nano, "2006-01-02T15:04:05,999999999Z07:00", "2006-01-02T15:04:05Z0700", time.UnixDate}

// timestamp looks when the mirror was written, if it tells in a timestamp.txt.
func (l *mountLook) timestamp(ctx context.Context) {
	if !l.isReached() || ctx.Err() != nil {
		return
	}
	text, _, err := l.read(ctx, l.at("timestamp.txt"), nil, 4096)
	if err != nil {
		return // it is optional
	}
	for _, layout := range timestamps {
		if t, err := time.Parse(layout, strings.TrimSpace(string(text))); err == nil && time.Until(t) < time.Hour {
			l.dated(t)
			return
		}
	}
}

// lastModified looks when bandersnatch last had something new, which it says in a file.
func (l *mountLook) lastModified(ctx context.Context) {
	if !l.isReached() || ctx.Err() != nil {
		return
	}
	if text, _, err := l.read(ctx, l.at("last-modified"), nil, 4096); err == nil {
		if t, err := time.Parse("20060102T15:04:05", strings.TrimSpace(string(text))); err == nil && time.Until(t) < time.Hour {
			l.dated(t)
		}
		return
	}
	a, err := l.c.ask(ctx, http.MethodHead, l.at("simple/"), accept(pipAccept))
	if err != nil {
		return
	}
	defer a.close()
	if t, err := http.ParseTime(a.Header.Get("Last-Modified")); err == nil && a.StatusCode == http.StatusOK && time.Until(t) < time.Hour {
		l.dated(t)
	}
}

// judgeAge compares the age of the data with what it may be.
func (l *mountLook) judgeAge() {
	if l.MaxAge <= 0 || !l.isReached() {
		return
	}
	if l.result.Date.IsZero() {
		l.note(Age, l.at(""), "does not tell how old its data are")
		return
	}
	if age := time.Since(l.result.Date); age > l.MaxAge {
		l.fault(Age, l.at(""), "has data of %s, which are %v old, and may be %v", l.result.Date.UTC().Format(dateFormat), age.Round(time.Second), l.MaxAge)
	}
}
