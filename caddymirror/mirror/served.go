package mirror

// Server is a handler that serves mounts. Others find it in the routes of a site, to
// tell clients what is mirrored there.
type Server interface {
	Served() []Served
}

// Served is a mount, as clients see it.
type Served struct {
	Prefix   string   // of its paths, without a slash at its end; "" is the root
	Format   string   // its name, such as "plain"
	OldNames []string // hosts at whose root it is served, in lower case
}
