package wheel

const (
	// maxMetadata is how large METADATA may be, and RECORD's and WHEEL's own limits. Long
	// descriptions have some hundred kilobytes.
	maxMetadata = 4 << 20
	maxInfo     = 64 << 10
	maxRecord   = 32 << 20

	// maxDirectory is how large the directory of an archive may be: a wheel of 30,000
	// files has 5 MiB. In memory it takes some five times as much.
	maxDirectory = 16 << 20

	// maxUnpacked is how much all files of a wheel may have when they are unpacked: the
	// largest of CUDA have 5 GiB.
	maxUnpacked = 32 << 30

	// maxTags is how many tags a compressed set may stand for.
	maxTags = 10_000
)
