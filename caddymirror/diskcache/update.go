package diskcache

import "sync/atomic"

// Current is an entry's metadata, and when it was last known to be that of the
// current object. Refresh and Update give the entry another.
type Current struct {
	Meta  *Meta // not to be changed
	Fresh Freshness

	memo atomic.Pointer[any]
}

// Memo is what SetMemo stored, or nil.
func (now *Current) Memo() any {
	if p := now.memo.Load(); p != nil {
		return *p
	}
	return nil
}

// SetMemo keeps a value derived from what is current for as long as that is, and
// the entry stays open.
func (now *Current) SetMemo(v any) { now.memo.Store(&v) }

// Current is what Meta and Fresh tell, of one moment: between calls of these two
// an Update may come.
func (e *Entry) Current() *Current { return e.current.Load() }

// Meta of the object, which must not be changed.
func (e *Entry) Meta() *Meta { return e.Current().Meta }

// Fresh is when the object was last known to be current.
func (e *Entry) Fresh() Freshness { return e.Current().Fresh }

// Refresh notes that the object was found to be current. It counts as a use.
func (e *Entry) Refresh(f Freshness) {
	c := e.c
	c.mu.Lock()
	defer c.mu.Unlock()
	e.current.Store(&Current{Meta: e.Meta(), Fresh: f})
	if e.unsavable {
		f = Freshness{} // it is not the metadata in the file that was validated
	}
	e.keep(unsaved{Freshness: f, change: c.unsaved[e.id].change})
}

// Update gives the object new metadata, of when it was found to be current, as a
// 304 (Not Modified) does; its body, and so meta.Size, stays what it is. meta must
// not be changed afterwards. It counts as a use.
//
// The file gets the new metadata within a minute, if it has room for it: half as
// much again as at first, see withRoom. If not, or if very much waits to be written,
// the file keeps the old metadata, with a zero Freshness. An entry that nobody uses
// may be read from its file again at any time, and then its source must be asked.
func (e *Entry) Update(meta Meta, f Freshness) {
	meta.Size = e.size
	line, err := encodeMeta(e.key, meta)
	fits := err == nil && headerLen+int64(len(line)) < e.bodyOff
	c := e.c
	c.mu.Lock()
	defer c.mu.Unlock()
	e.current.Store(&Current{Meta: &meta, Fresh: f})
	e.unsavable = !fits || c.unsavedMeta+int64(len(line)) > c.mostUnsaved
	if e.unsavable {
		e.keep(unsaved{})
		return
	}
	e.keep(unsaved{Freshness: f, change: &change{&meta, line}})
}

// keep has u written to the entry's file, unless that is no longer the entry's.
// Needs Cache.mu.
func (e *Entry) keep(u unsaved) {
	if e.slot == none {
		return
	}
	c := e.c
	r := c.index.at(e.slot)
	u.group, u.gen = r.group, r.gen
	c.keep(e.id, u)
	c.index.touch(e.slot, c.total())
}
