package kubelet

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAddressesAreUniqueRestAndRunOut(t *testing.T) {
	pool := newAddresses(netip.MustParsePrefix("127.1.32.0/28"))
	var all []netip.Addr
	for range 13 {
		a, err := pool.take()
		require.NoError(t, err)
		require.NotContains(t, all, a)
		all = append(all, a)
	}
	require.Equal(t, "127.1.32.2", all[0].String())
	require.Equal(t, "127.1.32.14", all[12].String())
	_, err := pool.take()
	require.ErrorContains(t, err, "all 13 pod addresses of 127.1.32.0/28 are in use")
	pool.release(all[12])
	last, err := pool.take()
	require.NoError(t, err, "the address handed out last can come free first")
	require.Equal(t, all[12], last)
}

func TestAddressesRestLongest(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	pool := newAddresses(netip.MustParsePrefix("127.1.32.0/24"))
	takes, taken := 0, map[netip.Addr]int{} // by address: which take it was
	var held []netip.Addr
	for range 20000 {
		if len(held) > 0 && (r.IntN(2) == 0 || len(held) == 50) {
			i := r.IntN(len(held))
			pool.release(held[i])
			held = append(held[:i], held[i+1:]...)
			continue
		}
		a, err := pool.take()
		require.NoError(t, err)
		require.NotContains(t, held, a)
		takes++
		if n, again := taken[a]; again {
			// Of 253 addresses at most 50 are in use and skipped: all others come first.
			require.GreaterOrEqual(t, takes-n, 253-50)
		}
		taken[a] = takes
		held = append(held, a)
	}
}
