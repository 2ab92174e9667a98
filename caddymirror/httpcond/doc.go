// Package httpcond answers conditional requests (RFC 9110 section 13) and range
// requests (section 14): pure functions of a request's header fields, and of
// the validators and the size of what is to be sent. It reads and writes
// nothing but header values.
package httpcond
