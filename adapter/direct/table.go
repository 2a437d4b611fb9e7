package direct

// rows are the places in which a node may have a value. A row keeps its place while it lives.
type rows struct {
	version uint64   // changes whenever a stamp does
	stamp   []uint64 // tells apart the rows that have a place one after the other; 0 for a free place
}

// table gives numbers to keys: the places of its rows. A key keeps its number while something refers to it.
type table[T any] struct {
	e *Evaluator
	rows
	ids    map[string]int32
	keys   []string
	values []T
	refs   []int32
	free   []int32
}

func newTable[T any](e *Evaluator) *table[T] { return &table[T]{e: e, ids: map[string]int32{}} }

// touch changes the stamp of a place that is there.
func (e *Evaluator) touch(r *rows, place int32, free bool) {
	e.stamps++
	r.version = e.stamps
	r.stamp[place] = e.stamps
	if free {
		r.stamp[place] = 0
	}
}

// acquire returns the number of a key and refers to it. value is called for a key that is new.
func (t *table[T]) acquire(key []byte, value func() T) int32 {
	if id, ok := t.ids[string(key)]; ok {
		t.refs[id]++
		return id
	}
	var id int32
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = int32(len(t.stamp))
		var zero T
		t.stamp, t.refs, t.keys, t.values = append(t.stamp, 0), append(t.refs, 0), append(t.keys, ""), append(t.values, zero)
	}
	t.e.touch(&t.rows, id, false)
	t.refs[id] = 1
	t.keys[id] = string(key)
	t.ids[t.keys[id]] = id
	t.values[id] = value()
	return id
}

func (t *table[T]) release(id int32) {
	if t.refs[id]--; t.refs[id] > 0 {
		return
	}
	delete(t.ids, t.keys[id])
	var zero T
	t.keys[id], t.values[id] = "", zero
	t.free = append(t.free, id)
	t.e.touch(&t.rows, id, true)
}

// noID is the number of a row that has none.
const noID = -1

// assignment remembers which number of a table each of some rows has.
type assignment struct {
	version uint64
	seen    []uint64
	id      []int32
}

// assign brings an assignment up to date for the rows that changed since. key returns the key of a row, false for none;
// its bytes may be reused by the next call. value is called right after key where the key is new.
func (t *table[T]) assign(a *assignment, in *rows, key func(row int) ([]byte, bool), value func(row int) T) {
	if a.version == in.version && len(a.seen) == len(in.stamp) {
		return
	}
	a.version = in.version
	for len(a.seen) < len(in.stamp) {
		a.seen, a.id = append(a.seen, 0), append(a.id, noID)
	}
	for row, stamp := range in.stamp {
		if a.seen[row] == stamp {
			continue
		}
		a.seen[row] = stamp
		before := a.id[row]
		a.id[row] = noID
		if stamp != 0 {
			if k, ok := key(row); ok {
				a.id[row] = t.acquire(k, func() T { return value(row) })
			}
		}
		if before != noID {
			t.release(before)
		}
	}
}

// drop gives up all numbers of an assignment.
func (t *table[T]) drop(a *assignment) {
	for _, id := range a.id {
		if id != noID {
			t.release(id)
		}
	}
	*a = assignment{}
}

// resize returns a slice of n elements, the former ones first.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}
