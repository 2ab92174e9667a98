package origin

// Inject has f called before each call to the file system of d: it may fail the
// call, hang or panic.
func Inject(d *Dir, f func(op, name string) error) { d.state.inject = f }
