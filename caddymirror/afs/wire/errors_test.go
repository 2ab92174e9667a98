package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestErrno(t *testing.T) {
	for code, want := range map[Code]syscall.Errno{
		49733376:       syscall.EPERM,
		49733377:       syscall.ENOENT,
		49733380:       syscall.EIO,
		49733388:       syscall.EACCES,
		49733397:       syscall.EINVAL,
		49733402:       syscall.EFBIG,
		49733376 + 19:  syscall.ENOTDIR,
		49733376 + 20:  syscall.EISDIR,
		49733376 + 29:  syscall.EROFS,
		49733376 + 39:  syscall.ELOOP,
		49733376 + 73:  syscall.EOVERFLOW, // behind the gap
		49733376 + 108: syscall.ETIMEDOUT,
		49733376 + 114: syscall.ESTALE,
		49733376 + 120: syscall.EDQUOT,

		1:  syscall.EPERM,
		13: syscall.EACCES,
		19: syscall.ENODEV,
		34: syscall.ERANGE,
	} {
		if got, ok := code.Errno(); !ok || got != want {
			t.Errorf("code %d is %v, %v, want %v", int32(code), got, ok, want)
		}
	}
	for _, code := range []Code{
		0, -1, -100, -455, 35, 40, 101, VNoVnode, VBusy, 116, 122, UNoQuorum, VLNoEnt,
		49733375, 49733376 + 40, 49733376 + 56, 49733376 + 57, 49733376 + 123, 1<<31 - 1, -1 << 31,
	} {
		if got, ok := code.Errno(); ok {
			t.Errorf("code %d is %v", int32(code), got)
		}
	}
}

func TestCodeIs(t *testing.T) {
	for _, c := range []struct {
		code   Code
		target error
		want   bool
	}{
		{49733377, syscall.ENOENT, true},
		{49733377, fs.ErrNotExist, true},
		{49733388, fs.ErrPermission, true},
		{13, syscall.EACCES, true},
		{VOffline, VOffline, true},
		{VOffline, VBusy, false},
		{VNoVnode, fs.ErrNotExist, false},
		{VIO, syscall.EHOSTDOWN, false},
	} {
		err := fmt.Errorf("fetch: %w", c.code)
		if got := errors.Is(err, c.target); got != c.want {
			t.Errorf("%v is %v: %v", err, c.target, got)
		}
	}
	var code Code
	if err := fmt.Errorf("fetch: %w", VBusy); !errors.As(err, &code) || code != VBusy {
		t.Errorf("code of %v is %v", err, code)
	}
}

func TestCodeName(t *testing.T) {
	for code, want := range map[Code]string{
		-1:       "RX_CALL_DEAD",
		-100:     "VRESTARTING",
		-453:     "RXGEN_SS_UNMARSHAL",
		-455:     "RXGEN_OPCODE",
		13:       "EACCES",
		103:      "VNOVOL",
		106:      "VOFFLINE",
		5376:     "UNOQUORUM",
		363524:   "VL_NOENT",
		363541:   "VL_ENTRYLOCKED",
		363544:   "VL_RERELEASE",
		363546:   "VL_PERM",
		363552:   "VL_DBBAD",
		49733388: "UAEACCES",
		49733411: "UAENAMETOOLONG",
		0:        "",
		12345:    "",
	} {
		if got := code.Name(); got != want {
			t.Errorf("code %d is %q, want %q", int32(code), got, want)
		}
	}
	for code, want := range map[Code]string{
		VOffline: "volume is offline (VOFFLINE, 106)",
		49733388: "permission denied (UAEACCES, 49733388)",
		1234567:  "server error 1234567",
		0:        "no error",
	} {
		if got := code.Error(); got != want {
			t.Errorf("code %d reads %q, want %q", int32(code), got, want)
		}
	}
	if !UNoQuorum.Ubik() || !Code(5391).Ubik() || VLNoEnt.Ubik() || Code(5375).Ubik() || Code(5408).Ubik() {
		t.Error("codes of ubik are not told from others")
	}
}

func TestCodesHaveTexts(t *testing.T) {
	names := make(map[string]Code)
	for code, c := range codes {
		if c.name == "" || c.text == "" {
			t.Errorf("code %d is %q, %q", int32(code), c.name, c.text)
		}
		if other, ok := names[c.name]; ok {
			t.Errorf("codes %d and %d are both %s", int32(code), int32(other), c.name)
		}
		names[c.name] = code
	}
}
