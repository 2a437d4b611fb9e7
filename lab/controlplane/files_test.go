package controlplane

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestEveryPodStageLeavesOurPodsAlone(t *testing.T) {
	for _, images := range [][]string{nil, {"headroom.dev/headroom-agent", "headroom.dev/headroom-adapter"}} {
		raw, err := kwokStages(images, "headroom.dev/simulate")
		require.NoError(t, err)
		pods := 0
		for document := range strings.SplitSeq(string(raw), "\n---\n") {
			var stage struct {
				Kind string
				Spec struct {
					ResourceRef struct{ Kind string }
					Selector    struct {
						MatchExpressions []struct {
							Key, Operator string
							Values        []string
						}
					}
				}
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &stage), document)
			require.Equal(t, "Stage", stage.Kind)
			if stage.Spec.ResourceRef.Kind != "Pod" {
				continue
			}
			pods++
			byImage, byAnnotation := false, false
			for _, e := range stage.Spec.Selector.MatchExpressions {
				byImage = byImage || strings.Contains(e.Key, ".image") && e.Operator == "NotIn" && len(e.Values) == max(1, len(images))
				byAnnotation = byAnnotation || e.Key == `.metadata.annotations["headroom.dev/simulate"]` && e.Operator == "DoesNotExist"
			}
			require.True(t, byImage && byAnnotation, document)
		}
		require.Equal(t, 3, pods)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	require.NoError(t, Options{HPASyncPeriod: time.Second, SimulateKey: "headroom.dev/simulate"}.Validate())
	require.ErrorContains(t, Options{SimulateKey: "headroom.dev/simulate"}.Validate(), "sync period")
	require.ErrorContains(t, Options{HPASyncPeriod: time.Second, SimulateKey: `x"]`}.Validate(), "annotation")
}
