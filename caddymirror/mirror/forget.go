package mirror

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

// forgetRequest names the gate that is to forget what was released last.
type forgetRequest struct {
	Gate string `json:"gate"`
}

// forgetReply says what was removed.
type forgetReply struct {
	// Removed are the files that gates of the name kept: none if they remembered nothing.
	Removed []string `json:"removed"`
}

func (r jobAPI) serveForget(w http.ResponseWriter, req *http.Request) error {
	var q forgetRequest
	if err := decode(w, req, &q); err != nil {
		return err
	}
	if q.Gate == "" {
		return apiError(http.StatusBadRequest, errors.New("which gate?"))
	}
	removed, err := r.Forget(q.Gate)
	if err != nil {
		err = fmt.Errorf("job %s: %w", r.Name(), err)
	}
	switch {
	case errors.Is(err, job.ErrNoMemory):
		return apiError(http.StatusNotFound, err)
	case errors.Is(err, job.ErrRunning):
		return apiError(http.StatusConflict, err)
	case err != nil:
		return err
	}
	return reply(w, forgetReply{removed})
}
