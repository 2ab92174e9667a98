package check

// What a mirror may send. ARCHITECTURE.md has the table of all limits.
const (
	// maxPage is how large a page or a listing may be, in bytes: the list of all of PyPI
	// has some 40 MB.
	maxPage = 256 << 20

	// maxListing is how large the listing of a directory may be.
	maxListing = 32 << 20

	// maxPlatforms is how many platforms of wheels are looked at.
	maxPlatforms = 100

	// maxConfig is how large a file of configuration for clients may be.
	maxConfig = 1 << 20

	// maxIndex is how large a compressed index of packages may be, if nothing says it.
	maxIndex = 2 << 30

	// maxFile is how large a file may be whose index does not say it.
	maxFile = 64 << 30

	// large is from what size on only a part of an object is fetched the second time, to see
	// whether it is in the cache.
	large = 16 << 20

	// minRate is how fast an answer must be on average, in bytes a second, once Timeout
	// has passed: slower ones have no end.
	minRate = 16 << 10

	// maxHeader is how large the header of an answer may be.
	maxHeader = 256 << 10

	// maxRedirects is how many redirects are followed.
	maxRedirects = 5

	// workers is how many files are looked at together.
	workers = 4

	// maxFindings is how many faults, and notes, of a mount are kept. More are counted.
	maxFindings = 20

	// maxListings is how many directories of [Files] are listed.
	maxListings = 10_000
)
