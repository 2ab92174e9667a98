package diskcache

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
)

func benchCache(b *testing.B, l Limits) *Cache {
	b.Helper()
	c, err := Open(b.TempDir(), l, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	await(b, c, Ready)
	return c
}

func benchHit(b *testing.B, c *Cache, size int) {
	b.Helper()
	const keys = 64
	all := make([]Key, keys)
	for n := range all {
		all[n] = key(n)
		if err := fill(c, all[n], 1, size, true); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, min(size, 256<<10))
		for n := 0; pb.Next(); n++ {
			e, ok := c.Get(all[n%keys])
			if !ok {
				b.Error("not there")
				return
			}
			e.Hit()
			if e.Bytes() == nil {
				for off := 0; off < size; off += len(p) {
					e.ReadAt(p, int64(off))
				}
			}
			e.Close()
		}
	})
}

func BenchmarkHitMemory(b *testing.B) {
	benchHit(b, benchCache(b, Limits{MaxSize: 256 << 20, Memory: 64 << 20}), 4<<10)
}

func BenchmarkHitFile(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			benchHit(b, benchCache(b, Limits{MaxSize: 256 << 20}), size)
		})
	}
}

// BenchmarkHitCold opens the file of an entry each time.
func BenchmarkHitCold(b *testing.B) {
	c := benchCache(b, Limits{MaxSize: 256 << 20})
	const keys = 2 * maxOpenFiles
	for n := range keys {
		if err := fill(c, key(n), 1, 4<<10, true); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		e, ok := c.Get(key(n % keys))
		if !ok {
			b.Fatal("not there")
		}
		e.Close()
	}
}

func BenchmarkLookupMiss(b *testing.B) {
	c := benchCache(b, Limits{MaxSize: 256 << 20})
	for n := range 1000 {
		if err := fill(c, key(n), 1, 10, true); err != nil {
			b.Fatal(err)
		}
	}
	absent := make([]Key, 1024)
	for n := range absent {
		absent[n] = Key{"/absent", fmt.Sprint("file", n)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if _, ok := c.Get(absent[n%len(absent)]); ok {
				b.Error("it is there")
			}
		}
	})
}

// BenchmarkFillSmall fills a cache that is full after a while: each fill then
// evicts another.
func BenchmarkFillSmall(b *testing.B) {
	c := benchCache(b, Limits{MaxSize: 64 << 20, Memory: 16 << 20})
	p := random(4<<10, 1)
	meta := Meta{Size: int64(len(p)), Validator: "1"}
	var n atomic.Int64
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f, _ := c.Fill(key(int(n.Add(1))))
			err := f.Start(meta, Freshness{})
			if err == nil {
				_, err = f.Write(p)
			}
			if err == nil {
				err = f.Commit()
			} else {
				f.Fail(err)
			}
			f.Leave()
			if err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkFillLarge(b *testing.B) {
	c := benchCache(b, Limits{MaxSize: 512 << 20})
	const size = 32 << 20
	p := random(256<<10, 1)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		f, _ := c.Fill(key(n))
		err := f.Start(Meta{Size: size}, Freshness{})
		for range size / len(p) {
			if err == nil {
				_, err = f.Write(p)
			}
		}
		if err == nil {
			err = f.Commit()
		} else {
			f.Fail(err)
		}
		f.Leave()
		if err != nil {
			b.Fatal(err)
		}
	}
}
