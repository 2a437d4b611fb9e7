package accelerator_test

import (
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/library"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/recommender/accelerator"
)

const driver = "gpu.nvidia.com"

// device is what NVIDIA's DRA driver publishes of a device, as a CEL expression sees it.
func device(product, profile, memory string) map[string]any {
	attributes := map[string]any{"type": "gpu", "productName": product}
	if profile != "" {
		attributes["type"], attributes["profile"] = "mig", profile
	}
	return map[string]any{
		"driver":     driver,
		"attributes": map[string]any{driver: attributes},
		"capacity":   map[string]any{driver: map[string]any{"memory": apiservercel.Quantity{Quantity: new(resource.MustParse(memory))}}},
	}
}

// matches evaluates a claim's selectors as the scheduler does: all must hold.
func matches(t *testing.T, selectors []resourcev1.DeviceSelector, device map[string]any) bool {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("device", cel.DynType), ext.Strings(), library.Quantity())
	require.NoError(t, err)
	require.NotEmpty(t, selectors)
	for _, selector := range selectors {
		ast, issues := env.Compile(selector.CEL.Expression)
		require.NoError(t, issues.Err(), selector.CEL.Expression)
		program, err := env.Program(ast)
		require.NoError(t, err)
		out, _, err := program.Eval(map[string]any{"device": device})
		require.NoError(t, err, selector.CEL.Expression)
		ok, isBool := out.Value().(bool)
		require.True(t, isBool, selector.CEL.Expression)
		if !ok {
			return false
		}
	}
	return true
}

func decode(t *testing.T, text string) resourcev1.ResourceClaimSpec {
	t.Helper()
	var spec resourcev1.ResourceClaimSpec
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &spec), text)
	require.Len(t, spec.Devices.Requests, 1)
	require.NotNil(t, spec.Devices.Requests[0].Exactly)
	return spec
}

func sizes(t *testing.T, product string) map[string]accelerator.Size {
	t.Helper()
	m, ok := accelerator.Find(product)
	require.True(t, ok)
	named := map[string]accelerator.Size{}
	for _, s := range m.Sizes([]accelerator.Sharing{accelerator.Whole, accelerator.MIG, accelerator.TimeSlicing}, nil, []int{4}) {
		named[s.String()] = s
	}
	return named
}

func TestAClaimOfAMIGDevice(t *testing.T) {
	size := sizes(t, "NVIDIA H200")["2g.35gb"]
	spec := decode(t, accelerator.Claim{Product: "NVIDIA H200", Size: size, Count: 1, Need: 30 << 30}.YAML())
	request := spec.Devices.Requests[0]
	assert.Equal(t, "mig.nvidia.com", request.Exactly.DeviceClassName)
	assert.Equal(t, resourcev1.DeviceAllocationModeExactCount, request.Exactly.AllocationMode)
	assert.Equal(t, int64(1), request.Exactly.Count)
	selectors := request.Exactly.Selectors
	assert.True(t, matches(t, selectors, device("NVIDIA H200", "2g.35gb", "33024Mi")))
	assert.False(t, matches(t, selectors, device("NVIDIA H200", "3g.71gb", "70Gi")), "another profile")
	assert.False(t, matches(t, selectors, device("NVIDIA H100 NVL", "2g.35gb", "33024Mi")), "another model")
	assert.False(t, matches(t, selectors, device("NVIDIA H200", "2g.35gb", "29Gi")), "too little memory")
}

func TestAClaimOfWholeGPUs(t *testing.T) {
	size := sizes(t, "NVIDIA H200")["a whole GPU"]
	spec := decode(t, accelerator.Claim{Product: "NVIDIA H200", Size: size, Count: 2}.YAML())
	request := spec.Devices.Requests[0].Exactly
	assert.Equal(t, "gpu.nvidia.com", request.DeviceClassName)
	assert.Equal(t, int64(2), request.Count)
	assert.True(t, matches(t, request.Selectors, device("NVIDIA H200", "", "143771Mi")))
	assert.False(t, matches(t, request.Selectors, device("NVIDIA H100 80GB HBM3", "", "81559Mi")))
}

func TestAClaimOfATimeSlice(t *testing.T) {
	size := sizes(t, "NVIDIA H200")["1/4 of a GPU"]
	shared := decode(t, accelerator.Claim{Product: "NVIDIA H200", Size: size, Count: 1, Need: 30 << 30}.YAML())
	require.Len(t, shared.Devices.Config, 1)
	assert.Equal(t, driver, shared.Devices.Config[0].Opaque.Driver)
	assert.JSONEq(t, `{"apiVersion":"resource.nvidia.com/v1beta1","kind":"GpuConfig","sharing":{"strategy":"TimeSlicing"}}`,
		string(shared.Devices.Config[0].Opaque.Parameters.Raw))
	assert.Nil(t, shared.Devices.Requests[0].Exactly.Capacity)

	parts := decode(t, accelerator.Claim{Product: "NVIDIA H200", Size: size, Count: 1, Consumable: true}.YAML())
	assert.Empty(t, parts.Devices.Config)
	memory := parts.Devices.Requests[0].Exactly.Capacity.Requests["memory"]
	assert.Zero(t, memory.Value()%(1<<20))
	assert.Less(t, memory.Value()-size.Bytes, int64(1<<20))
	assert.GreaterOrEqual(t, memory.Value(), size.Bytes)
}

// A product name comes from a node: whatever it holds, it stays a name.
func FuzzClaim(f *testing.F) {
	f.Add(`NVIDIA H200`, "2g.35gb")
	f.Add(`x" || true || "`, "1g\": {}\n- y")
	f.Add("a\u2028b\x00c", "'")
	f.Fuzz(func(t *testing.T, product, profile string) {
		size := accelerator.Size{Sharing: accelerator.MIG, Profile: profile, Bytes: 1 << 30}
		spec := decode(t, accelerator.Claim{Product: product, Size: size, Count: 1}.YAML())
		if matches(t, spec.Devices.Requests[0].Exactly.Selectors, device("another", "other", "80Gi")) && (product != "another" || profile != "other") {
			t.Fatalf("%q %q match another device", product, profile)
		}
	})
}
