// Package wheel reads wheels, and the names of wheels and source distributions.
//
// The formats are those of the Python Packaging User Guide: "Binary distribution format"
// (PEP 427, 491), "Source distribution file name" (PEP 625), "Names and normalization"
// (PEP 503), "Version specifiers" (PEP 440) and "Platform compatibility tags" (PEP 425).
//
// Wheels come from outside: nothing that they say makes a reader take more memory than
// this package's limits, see limits.go. What is wrong with a wheel is a [fault.Error]; all
// other errors are those of whoever read it.
package wheel
