package check

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// timestamps are the forms in which a timestamp.txt has the time: of the option timestamp
// of jobs and of date(1), with --iso-8601=ns, and others with seconds.
var timestamps = []string{time.RFC3339Nano, "2006-01-02T15:04:05,999999999Z07:00", "2006-01-02T15:04:05Z0700", time.UnixDate}

// timestamp looks when the mirror was written, if it tells in a timestamp.txt. The tree
// of a job may be larger than the mount: the nearest directory that has one counts.
func (l *mountLook) timestamp(ctx context.Context) {
	if !l.isReached() {
		return
	}
	for dir := path.Clean("/" + l.Path); ctx.Err() == nil; dir = path.Dir(dir) {
		text, _, err := l.read(ctx, l.c.at(path.Join(dir, "timestamp.txt")), nil, 4096)
		// There need not be any. A host that falls silent is asked once.
		status := statusError(0)
		if err != nil && !errors.As(err, &status) || err == nil && l.stamp(string(text)) || dir == "/" {
			return
		}
	}
}

// stamp takes the time of a timestamp.txt for the data's, if it is one.
func (l *mountLook) stamp(text string) bool {
	for _, layout := range timestamps {
		if t, err := time.Parse(layout, strings.TrimSpace(text)); err == nil && time.Until(t) < time.Hour {
			l.dated(t)
			return true
		}
	}
	return false
}

// lastModified looks when bandersnatch last had something new, which it says in a file.
func (l *mountLook) lastModified(ctx context.Context) {
	if !l.isReached() || ctx.Err() != nil {
		return
	}
	if text, _, err := l.read(ctx, l.at(pypi.LastModified), nil, 4096); err == nil {
		if t, err := pypi.ParseLastModified(string(text)); err == nil && time.Until(t) < time.Hour {
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
