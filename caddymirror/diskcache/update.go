package diskcache

// Update replaces the metadata of an object that was found to be current; its size stays.
func (e *Entry) Update(m Meta, f Freshness) {
	m.Size = e.meta.Size
	e.meta = m
	e.memo.Store(nil)
	e.Refresh(f)
}
