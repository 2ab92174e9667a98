package cell

import (
	"encoding/binary"
	"time"
)

// emptyDump is the dump of a volume (as vos-dump(1) writes it) that has nothing
// but a root directory with all rights for everyone. Vos create gives them to
// administrators only, of whom there are none here.
func emptyDump(name string) []byte {
	const volume = 1 // anything; it is restored as another
	now := uint32(time.Now().Unix())
	var d dump

	d.tag(1).u32(0xb3a11322, 1) // dump header: magic, version
	d.tag('v').u32(volume)
	d.tag('n').str(name)
	d.tag('t').u16(2).u32(0, now) // from, to

	d.tag(2) // volume
	d.tag('i').u32(volume)
	d.tag('v').u32(1)
	d.tag('n').str(name)
	d.tag('s').u8(1) // in service
	d.tag('b').u8(1) // blessed
	d.tag('u').u32(2)
	d.tag('t').u8(0) // read-write
	d.tag('p').u32(volume)
	d.tag('c').u32(0)
	d.tag('q').u32(0) // no quota
	d.tag('m').u32(0)
	d.tag('d').u32(2) // KiB in use
	d.tag('f').u32(1) // files
	for _, t := range []byte("CAU") {
		d.tag(t).u32(now) // created, accessed, updated
	}

	d.tag(3).u32(1, 1) // vnode, unique
	d.tag('t').u8(2)   // directory
	d.tag('l').u16(2)  // links
	d.tag('v').u32(1)  // data version
	d.tag('m').u32(now)
	d.tag('a').u32(0)
	d.tag('o').u32(0)
	d.tag('b').u16(0o777)
	d.tag('p').u32(0)
	d.tag('s').u32(now)
	d.tag('A').bytes(rootACL())
	dir := rootDir()
	d.tag('f').u32(uint32(len(dir))).bytes(dir)

	d.tag(4).u32(0x3a214b6e) // end
	return d
}

// rootACL is the access control list as volumes keep it: everyone has all rights.
func rootACL() []byte {
	const (
		version = 1
		anyUser = -101
		all     = 0x7f // rlidwka
		size    = 192
	)
	entries := []int32{anyUser, all}
	acl := dump(nil)
	acl.u32(uint32(20+4*len(entries)), version, 1, 1, 0) // in total, positive, negative
	for _, e := range entries {
		acl.u32(uint32(e))
	}
	return append(acl, make([]byte, size-len(acl))...)
}

// rootDir is a directory with nothing but . and .. in it, see afs/wire.
func rootDir() []byte {
	const (
		pageSize  = 2048
		blob      = 32
		first     = 13 // blobs before are the header
		hashTable = 160
	)
	p := make([]byte, pageSize)
	copy(p, []byte{0, 1, 1234 >> 8, 1234 & 0xff, 64 - first, 0xff, 0x7f})
	p[blob] = 64 - first - 2 // free blobs of the pages, of which one is there
	for i := blob + 1; i < hashTable; i++ {
		p[i] = 64
	}
	for i, e := range []struct {
		name   string
		bucket int
	}{{".", 46}, {"..", 68}} {
		n := first + i
		binary.BigEndian.PutUint16(p[hashTable+2*e.bucket:], uint16(n))
		b := p[n*blob:]
		b[0] = 1                             // in use
		binary.BigEndian.PutUint32(b[4:], 1) // vnode
		binary.BigEndian.PutUint32(b[8:], 1) // unique
		copy(b[12:], e.name)
	}
	return p
}

// dump is written in the byte order of the network.
type dump []byte

func (d *dump) tag(t byte) *dump { return d.u8(t) }

func (d *dump) u8(v byte) *dump {
	*d = append(*d, v)
	return d
}

func (d *dump) u16(v uint16) *dump {
	*d = binary.BigEndian.AppendUint16(*d, v)
	return d
}

func (d *dump) u32(all ...uint32) *dump {
	for _, v := range all {
		*d = binary.BigEndian.AppendUint32(*d, v)
	}
	return d
}

func (d *dump) str(s string) *dump {
	*d = append(append(*d, s...), 0)
	return d
}

func (d *dump) bytes(b []byte) *dump {
	*d = append(*d, b...)
	return d
}
