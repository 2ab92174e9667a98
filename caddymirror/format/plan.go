package format

// Planner is a [Format] that decides how some paths are answered, beyond their
// being names of files and directories.
type Planner interface {
	// Plan tells how a request is to be answered; ok is false if it is answered as in
	// the format plain. It depends on nothing but the request: its results are kept,
	// and must not be changed.
	Plan(r Request) (p Plan, ok bool)
}

// Request is the part of a GET or HEAD request that the answer may depend on.
type Request struct {
	// Path is the path below the mount, decoded, without empty and dot elements
	// and without a slash in front. A slash at its end is significant.
	Path string

	// Query is the query as it was sent, without the question mark.
	Query string

	// Accept is the Accept field, its lines joined with commas; empty if there is
	// none.
	Accept string
}

// Plan is how a request is answered: by a redirect, or by the first of Candidates
// that is there, or, if only some of Others are there, by 406 (Not Acceptable) with
// the list of these. If none is there, the answer is 404, but see Tree.
type Plan struct {
	// Redirect is the canonical path of what is asked for, in the form of
	// Request.Path. The query stays as it is.
	Redirect string

	// Candidates are the files that may answer, the preferred one first.
	Candidates []Candidate

	// Others are files that would answer, too, but in media types that the request
	// does not accept.
	Others []Candidate

	// Tree says what happens if none of Candidates and Others is there: the path is
	// answered as in the format plain, and not with 404.
	Tree bool

	// Vary names the request fields that the plan depends on (RFC 9110 section
	// 12.5.5).
	Vary []string
}

// Candidate is a file, and what it is served as.
type Candidate struct {
	// Name of the object, relative to the mount.
	Name string

	// MediaType is its Content-Type. One file may be served as several: each of
	// these representations has an ETag of its own. Default: by the name's
	// extension.
	MediaType string
}
