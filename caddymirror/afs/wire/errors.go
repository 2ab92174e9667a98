package wire

import (
	"fmt"
	"syscall"
)

// Code is the code with which a server ends a call that failed.
type Code int32 //nolint:errname // it is a number first, like syscall.Errno

// Codes of Rx and of the stubs above it.
//
//nolint:errname // codes are called what AFS calls them
const (
	RXCallDead         Code = -1
	RXInvalidOperation Code = -2 // no such service or security class
	RXCallTimeout      Code = -3
	RXEOF              Code = -4
	RXProtocolError    Code = -5
	RXUserAbort        Code = -6
	RXAddrInUse        Code = -7
	RXMessageSize      Code = -8
	VRestarting        Code = -100 // the server lives, and attaches its volumes yet
	RXGENCCMarshal     Code = -450
	RXGENCCUnmarshal   Code = -451
	RXGENSSMarshal     Code = -452
	RXGENSSUnmarshal   Code = -453 // the request was not understood
	RXGENOpcode        Code = -455 // the server does not know such requests
)

// Codes about volumes and the files in them.
//
//nolint:errname // codes are called what AFS calls them
const (
	VSalvage   Code = 101 // needs salvaging
	VNoVnode   Code = 102 // no such file: the FID is of another time, or of another volume
	VNoVol     Code = 103 // not at this site
	VVolExists Code = 104
	VNoService Code = 105
	VOffline   Code = 106 // as during a release
	VOnline    Code = 107
	VDiskFull  Code = 108
	VOverQuota Code = 109
	VBusy      Code = 110 // soon better
	VMoved     Code = 111
	VIO        Code = 112
	VSalvaging Code = 113
)

// Codes of volume location servers, and of database servers in general.
//
//nolint:errname // codes are called what AFS calls them
const (
	VLNoEnt       Code = vlBase + 4 // no such volume
	VLEntDeleted  Code = vlBase + 6
	VLBadName     Code = vlBase + 7
	VLEntryLocked Code = vlBase + 21
	VLPerm        Code = vlBase + 26
	VLDBBad       Code = vlBase + 32
	UNoQuorum     Code = ubikBase
)

const (
	vlBase   = 363520
	ubikBase = 5376

	// The universal error numbers are the errnos of Linux in their order, without
	// 58, which is another name of 35, up to EMEDIUMTYPE.
	uaeBase = 49733376
	uaeLast = uaeBase + 122
	uaeGap  = 58
)

// Errno returns the errno of servers that failed for a reason of the system:
// EACCES, ENOENT, EIO. Codes that are not about that have none.
//
// File servers send universal numbers to clients that can translate errors
// ([CapErrorTranslation]). To others, and from other servers, come the plain ones,
// of which only those up to 34 are the same everywhere and told from other codes.
func (c Code) Errno() (syscall.Errno, bool) {
	e, ok := errnos[c.errno()]
	return e.errno, ok
}

// errno is the code's key in errnos, which may not be there.
func (c Code) errno() Code {
	switch n := c - uaeBase + 1; {
	case c <= 34:
		return c
	case c < uaeBase || c > uaeLast:
		return 0
	case n < uaeGap:
		return n
	default:
		return n + 1
	}
}

// Is makes [errors.Is] find errnos, and what they stand for, such as
// [io/fs.ErrNotExist].
func (c Code) Is(target error) bool {
	e, ok := c.Errno()
	return ok && (e == target || e.Is(target))
}

// Ubik says that a database server has trouble with the others. Another one may
// do better.
func (c Code) Ubik() bool { return c >= ubikBase && c < ubikBase+32 }

// Name is the symbol of the code, such as "VOFFLINE" or "UAEACCES", empty if it
// has none.
func (c Code) Name() string {
	if t, ok := codes[c]; ok {
		return t.name
	}
	name := errnos[c.errno()].name
	if name != "" && c >= uaeBase {
		name = "UA" + name
	}
	return name
}

func (c Code) Error() string {
	if c == 0 {
		return "no error"
	}
	if t, ok := codes[c]; ok {
		return fmt.Sprintf("%s (%s, %d)", t.text, t.name, int32(c))
	}
	if e, ok := c.Errno(); ok {
		return fmt.Sprintf("%v (%s, %d)", e, c.Name(), int32(c))
	}
	return fmt.Sprintf("server error %d", int32(c))
}

// codes are the names of codes that are no errnos, with what to tell people.
var codes = map[Code]struct{ name, text string }{
	RXCallDead:         {"RX_CALL_DEAD", "peer does not answer"},
	RXInvalidOperation: {"RX_INVALID_OPERATION", "no such service"},
	RXCallTimeout:      {"RX_CALL_TIMEOUT", "call took too long"},
	RXEOF:              {"RX_EOF", "call ended early"},
	RXProtocolError:    {"RX_PROTOCOL_ERROR", "Rx protocol error"},
	RXUserAbort:        {"RX_USER_ABORT", "call was given up"},
	RXAddrInUse:        {"RX_ADDRINUSE", "address in use"},
	RXMessageSize:      {"RX_MSGSIZE", "packet too large"},
	VRestarting:        {"VRESTARTING", "file server is starting"},
	RXGENCCMarshal:     {"RXGEN_CC_MARSHAL", "client cannot encode the request"},
	RXGENCCUnmarshal:   {"RXGEN_CC_UNMARSHAL", "client cannot decode the reply"},
	RXGENSSMarshal:     {"RXGEN_SS_MARSHAL", "server cannot encode the reply"},
	RXGENSSUnmarshal:   {"RXGEN_SS_UNMARSHAL", "server cannot decode the request"},
	RXGENOpcode:        {"RXGEN_OPCODE", "server does not know the request"},

	VSalvage:   {"VSALVAGE", "volume needs salvaging"},
	VNoVnode:   {"VNOVNODE", "no such file in the volume"},
	VNoVol:     {"VNOVOL", "no such volume at the server"},
	VVolExists: {"VVOLEXISTS", "volume exists"},
	VNoService: {"VNOSERVICE", "volume is not in service"},
	VOffline:   {"VOFFLINE", "volume is offline"},
	VOnline:    {"VONLINE", "volume is online"},
	VDiskFull:  {"VDISKFULL", "partition is full"},
	VOverQuota: {"VOVERQUOTA", "volume is over its quota"},
	VBusy:      {"VBUSY", "volume is busy"},
	VMoved:     {"VMOVED", "volume has moved"},
	VIO:        {"VIO", "volume has an I/O error"},
	VSalvaging: {"VSALVAGING", "volume is being salvaged"},

	vlBase:        {"VL_IDEXIST", "volume id exists"},
	vlBase + 1:    {"VL_IO", "volume location database has an I/O error"},
	vlBase + 2:    {"VL_NAMEEXIST", "volume name exists"},
	vlBase + 3:    {"VL_CREATEFAIL", "volume entry cannot be created"},
	VLNoEnt:       {"VL_NOENT", "no such volume"},
	vlBase + 5:    {"VL_EMPTY", "volume location database is empty"},
	VLEntDeleted:  {"VL_ENTDELETED", "volume entry is deleted"},
	VLBadName:     {"VL_BADNAME", "bad volume name"},
	vlBase + 8:    {"VL_BADINDEX", "bad index"},
	vlBase + 9:    {"VL_BADVOLTYPE", "bad volume type"},
	vlBase + 10:   {"VL_BADSERVER", "bad server number"},
	vlBase + 11:   {"VL_BADPARTITION", "bad partition number"},
	vlBase + 12:   {"VL_REPSFULL", "too many sites"},
	vlBase + 13:   {"VL_NOREPSERVER", "no such site"},
	vlBase + 14:   {"VL_DUPREPSERVER", "site exists"},
	vlBase + 15:   {"VL_RWNOTFOUND", "no read-write volume"},
	vlBase + 16:   {"VL_BADREFCOUNT", "bad reference count"},
	vlBase + 17:   {"VL_SIZEEXCEEDED", "too many entries"},
	vlBase + 18:   {"VL_BADENTRY", "bad volume entry"},
	vlBase + 19:   {"VL_BADVOLIDBUMP", "bad increment of volume ids"},
	vlBase + 20:   {"VL_IDALREADYHASHED", "volume id is in use"},
	VLEntryLocked: {"VL_ENTRYLOCKED", "volume entry is locked"},
	vlBase + 22:   {"VL_BADVOLOPER", "bad volume operation"},
	vlBase + 23:   {"VL_BADRELLOCKTYPE", "bad type of unlocking"},
	vlBase + 24:   {"VL_RERELEASE", "last release was broken off"},
	vlBase + 25:   {"VL_BADSERVERFLAG", "bad site flag"},
	VLPerm:        {"VL_PERM", "no permission for the volume location database"},
	vlBase + 27:   {"VL_NOMEM", "volume location server is out of memory"},
	vlBase + 28:   {"VL_BADVERSION", "volume location database has a wrong version"},
	vlBase + 29:   {"VL_INDEXERANGE", "index out of range"},
	vlBase + 30:   {"VL_MULTIPADDR", "address of several servers"},
	vlBase + 31:   {"VL_BADMASK", "bad mask"},
	VLDBBad:       {"VL_DBBAD", "volume location database is inconsistent"},

	UNoQuorum:     {"UNOQUORUM", "database servers have no quorum"},
	ubikBase + 1:  {"UNOTSYNC", "database server is not the sync site"},
	ubikBase + 2:  {"UNHOSTS", "too many database servers"},
	ubikBase + 3:  {"UIOERROR", "database server has an I/O error"},
	ubikBase + 4:  {"UINTERNAL", "database server has an internal error"},
	ubikBase + 5:  {"USYNC", "database server lost its sync site"},
	ubikBase + 6:  {"UNOENT", "database server lacks its database"},
	ubikBase + 7:  {"UBADLOCK", "database server got a bad lock range"},
	ubikBase + 8:  {"UBADLOG", "database server cannot read its log"},
	ubikBase + 9:  {"UBADHOST", "database server has a bad host name"},
	ubikBase + 10: {"UBADTYPE", "bad operation for a database transaction"},
	ubikBase + 11: {"UTWOENDS", "database transaction ended twice"},
	ubikBase + 12: {"UDONE", "database transaction is over"},
	ubikBase + 13: {"UNOSERVS", "no database servers are up"},
	ubikBase + 14: {"UEOF", "database ended early"},
	ubikBase + 15: {"ULOGIO", "database server cannot write its log"},
}

// errnos are the error numbers of Linux, which are those on the wire, as the
// system calls them here. Only those a server of files may well have.
var errnos = map[Code]struct {
	name  string
	errno syscall.Errno
}{
	1:   {"EPERM", syscall.EPERM},
	2:   {"ENOENT", syscall.ENOENT},
	3:   {"ESRCH", syscall.ESRCH},
	4:   {"EINTR", syscall.EINTR},
	5:   {"EIO", syscall.EIO},
	6:   {"ENXIO", syscall.ENXIO},
	7:   {"E2BIG", syscall.E2BIG},
	8:   {"ENOEXEC", syscall.ENOEXEC},
	9:   {"EBADF", syscall.EBADF},
	10:  {"ECHILD", syscall.ECHILD},
	11:  {"EAGAIN", syscall.EAGAIN},
	12:  {"ENOMEM", syscall.ENOMEM},
	13:  {"EACCES", syscall.EACCES},
	14:  {"EFAULT", syscall.EFAULT},
	15:  {"ENOTBLK", syscall.ENOTBLK},
	16:  {"EBUSY", syscall.EBUSY},
	17:  {"EEXIST", syscall.EEXIST},
	18:  {"EXDEV", syscall.EXDEV},
	19:  {"ENODEV", syscall.ENODEV},
	20:  {"ENOTDIR", syscall.ENOTDIR},
	21:  {"EISDIR", syscall.EISDIR},
	22:  {"EINVAL", syscall.EINVAL},
	23:  {"ENFILE", syscall.ENFILE},
	24:  {"EMFILE", syscall.EMFILE},
	25:  {"ENOTTY", syscall.ENOTTY},
	26:  {"ETXTBSY", syscall.ETXTBSY},
	27:  {"EFBIG", syscall.EFBIG},
	28:  {"ENOSPC", syscall.ENOSPC},
	29:  {"ESPIPE", syscall.ESPIPE},
	30:  {"EROFS", syscall.EROFS},
	31:  {"EMLINK", syscall.EMLINK},
	32:  {"EPIPE", syscall.EPIPE},
	33:  {"EDOM", syscall.EDOM},
	34:  {"ERANGE", syscall.ERANGE},
	35:  {"EDEADLK", syscall.EDEADLK},
	36:  {"ENAMETOOLONG", syscall.ENAMETOOLONG},
	37:  {"ENOLCK", syscall.ENOLCK},
	38:  {"ENOSYS", syscall.ENOSYS},
	39:  {"ENOTEMPTY", syscall.ENOTEMPTY},
	40:  {"ELOOP", syscall.ELOOP},
	75:  {"EOVERFLOW", syscall.EOVERFLOW},
	95:  {"EOPNOTSUPP", syscall.EOPNOTSUPP},
	103: {"ECONNABORTED", syscall.ECONNABORTED},
	104: {"ECONNRESET", syscall.ECONNRESET},
	105: {"ENOBUFS", syscall.ENOBUFS},
	110: {"ETIMEDOUT", syscall.ETIMEDOUT},
	111: {"ECONNREFUSED", syscall.ECONNREFUSED},
	112: {"EHOSTDOWN", syscall.EHOSTDOWN},
	113: {"EHOSTUNREACH", syscall.EHOSTUNREACH},
	116: {"ESTALE", syscall.ESTALE},
	122: {"EDQUOT", syscall.EDQUOT},
}
