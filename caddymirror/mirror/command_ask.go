package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/command"
)

// request makes a request to the admin API of the running Caddy. Who gets an answer
// closes its body.
func request(fl caddycmd.Flags, method, uri string, body io.Reader) (*http.Response, error) {
	addr, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return nil, command.Sentence(fmt.Errorf("finding the admin address: %w", err))
	}
	resp, err := caddycmd.AdminAPIRequest(addr, method, uri, nil, body)
	if err != nil {
		return nil, asked(addr, err)
	}
	return resp, nil
}

// maxAnswer is how large an answer of the admin API may be.
const maxAnswer = 256 << 20

// ask makes a request to the admin API, and reads the answer.
func ask(fl caddycmd.Flags, method, uri string, body io.Reader, into any) error {
	resp, err := request(fl, method, uri, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readAnswer(resp.Body, maxAnswer, into)
}

func readAnswer(r io.Reader, limit int64, into any) error {
	body := &io.LimitedReader{R: r, N: limit}
	err := json.NewDecoder(body).Decode(into)
	if err != nil && body.N <= 0 {
		return fmt.Errorf("reading Caddy's answer: it is larger than %s", humanize.IBytes(uint64(limit)))
	}
	if err != nil {
		return fmt.Errorf("reading Caddy's answer: %w", err)
	}
	return nil
}

// asked says what is wrong with a request, for people. What [caddycmd.AdminAPIRequest]
// returns has the answer of the API, or the reason why there is none, in its text only.
func asked(addr string, err error) error {
	text := err.Error()
	if answer, ok := strings.CutPrefix(text, "caddy responded with error: HTTP "); ok {
		status, body, _ := strings.Cut(answer, ": ")
		var told struct {
			Error string `json:"error"`
		}
		switch jerr := json.Unmarshal([]byte(body), &told); {
		case jerr == nil && told.Error != "":
			return command.Sentence(errors.New(told.Error))
		case status == "404":
			return fmt.Errorf("the Caddy at %s has no package mirror in it", addr)
		}
		return command.Sentence(fmt.Errorf("the Caddy at %s answers with status %s: %s", addr, status, body))
	}
	if why, ok := strings.CutPrefix(text, "performing request: "); ok {
		why = strings.TrimSpace(why[strings.LastIndex(why, ": ")+1:]) // the rest is how we have asked
		return command.Hint(fmt.Errorf("no Caddy answers at %s: %s", addr, why),
			"Is it running? If its admin endpoint is at another address, give --address or --config.")
	}
	return command.Sentence(fmt.Errorf("admin address %s: %w", addr, err))
}
