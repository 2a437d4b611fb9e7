package podenv

import (
	"slices"
	"strings"
)

// Mount says where a path of the container really lies.
type Mount struct {
	From string // as in the pod: "/etc/headroom", absolute and clean
	To   string // on this machine
}

// Rewrite replaces every mounted path in s by where it lies: a process without a mount namespace of its own is told the
// real places. A path counts where it starts s or follows a byte that no path holds, or "scheme://", and where its last
// element is whole: "/etc/headroom" is found in "--config=/etc/headroom/a.yaml" and "unix:///etc/headroom/s", but neither
// in "/etc/headroom.d", "/etc/headroom2", "/var/etc/headroom" nor in "http://host/etc/headroom". Of nested mounts the
// deepest wins. Nothing is replaced twice.
func Rewrite(s string, mounts []Mount) string {
	longest := slices.SortedFunc(slices.Values(mounts), func(a, b Mount) int { return len(b.From) - len(a.From) })
	var out strings.Builder
	for i := 0; i < len(s); {
		m := at(s, i, longest)
		if m == nil {
			out.WriteByte(s[i])
			i++
			continue
		}
		out.WriteString(m.To)
		i += len(m.From)
	}
	return out.String()
}

func at(s string, i int, mounts []Mount) *Mount {
	if s[i] != '/' || (i > 0 && inPath(s[i-1]) && !strings.HasSuffix(s[:i], "://")) {
		return nil
	}
	for k := range mounts {
		rest, found := strings.CutPrefix(s[i:], mounts[k].From)
		if found && (rest == "" || rest[0] == '/' || !inPath(rest[0])) {
			return &mounts[k]
		}
	}
	return nil
}

func inPath(b byte) bool {
	return b == '/' || b == '.' || b == '_' || b == '-' || b == '~' || b >= 0x80 ||
		'0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}
