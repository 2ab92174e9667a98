package gate

// Oddities of a repository of Debian packages in its tree; those of its indexes by
// themselves are in repo/apt.
const (
	oddPacked   = "lists an index of packages in compressed forms only; apt does not find it"
	oddFault    = "lists a file that is not here, with no size or checksum that one can have"
	oddAbsolute = "a Filename begins with a slash; apt takes it relative to the repository"
	oddUp       = "a Filename leads up; clients find it where their server shortens paths"
)
