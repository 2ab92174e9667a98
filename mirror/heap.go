package mirror

import "sync"

// headroom is memory that is never touched, so that it takes no room but in the
// garbage collector's books: the collector runs when the heap has doubled, and
// while little is held in memory that is every few thousand requests, a fifth
// of their time. With it there are at least so many bytes of garbage to every
// run, as there are once the memory of a cache is filled.
var headroom = sync.OnceValue(func() []byte { return make([]byte, defaultMemory) })
