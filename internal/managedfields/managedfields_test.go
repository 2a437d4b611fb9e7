package managedfields

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOwn(t *testing.T) {
	raw := []byte(`{"f:spec":{"f:replicas":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}}},"f:selector":{}}}`)
	for path, want := range map[[3]string]bool{
		{"spec", "replicas"}:                true,
		{"spec", "selector", "matchLabels"}: true, // atomic
		{"spec", "strategy"}:                true, // of something below
		{"spec", "strategy", "type"}:        false,
		{"spec", "paused"}:                  false,
		{"metadata"}:                        false,
	} {
		var of []string
		for _, name := range path {
			if name != "" {
				of = append(of, name)
			}
		}
		assert.Equal(t, want, Own(raw, of), of)
	}
	assert.False(t, Own([]byte(`{"f:spec":`), []string{"spec"}))
	assert.False(t, Own([]byte(`[]`), []string{"spec"}))
}
