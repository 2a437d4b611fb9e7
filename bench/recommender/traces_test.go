package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/recommender"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	raw := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(raw)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		raw = b.Bytes()
	}
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

// TestReadTraces: CPU and memory are told by the name's unit, containers are told apart, gaps are unknown; everything else is
// left out with a line that says why.
func TestReadTraces(t *testing.T) {
	dir := t.TempDir()
	var cpu, memory strings.Builder
	cpu.WriteString("ts,value\n")
	memory.WriteString("timestamp,value,container\n")
	for i := range 600 {
		if i != 7 {
			fmt.Fprintf(&cpu, "%d,%d.5\n", 1_628_640_000+60*i, i)
		}
		fmt.Fprintf(&memory, "%d,%d,b\n", 1_662_858_720+57*i, i*1000)
		if i < 450 {
			fmt.Fprintf(&memory, "%d,5,a\n", 1_662_858_720+57*i)
		}
		if i < 10 {
			fmt.Fprintf(&memory, "%d,5,short\n", 1_662_858_720+57*i)
		}
		fmt.Fprintf(&memory, "%d,0,idle\n", 1_662_858_720+57*i)
	}
	memory.WriteString("1662900000,1,once\n")
	write(t, dir, "crane/input0.csv.gz", cpu.String())
	write(t, dir, "x/gpu_memory_used_bytes.csv", memory.String())
	write(t, dir, "x/load_ms.csv", "ts,value\n1,2\n")
	write(t, dir, "nasa/requests.csv", "second,requests\n1,2\n2,3\n")
	write(t, dir, "broken.csv.gz", "ts,value\n1,2\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "torn.csv.gz"), []byte("no gzip"), 0o600))
	write(t, dir, "negative.csv", "ts,value\n1,2\n2,-3\n61,1\n")
	write(t, dir, "README.md", "words")

	var said bytes.Buffer
	list, err := readTraces(dir, "", &said)
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, "crane/input0", list[0].name)
	assert.Equal(t, "crane", list[0].family)
	one := list[0].series[0]
	assert.Equal(t, recommender.CPU, one.resource)
	assert.Equal(t, time.Minute, one.step)
	assert.Len(t, one.usage, 600)
	assert.Equal(t, 6.5, one.usage[6])
	assert.True(t, math.IsNaN(one.usage[7]))
	assert.Equal(t, int64(1_628_640_060), one.at(1).Unix())

	require.Len(t, list[1].series, 2)
	assert.Equal(t, recommender.Memory, list[1].resource())
	assert.Equal(t, "x/gpu_memory_used_bytes b", list[1].series[0].name)
	assert.Equal(t, 57*time.Second, list[1].series[0].step)
	assert.Equal(t, 599_000.0, list[1].series[0].usage[599])
	assert.Len(t, list[1].series[1].usage, 450)
	for _, want := range []string{
		"x/gpu_memory_used_bytes: 3 of 5 series are left out", "x/load_ms.csv is left out: by its unit (ms)", "nasa/requests.csv is left out: it has no column value",
		"broken.csv.gz is left out: it has no series", "torn.csv.gz is left out: cannot unpack", "negative.csv is left out", "README.md is left out: it is no CSV",
	} {
		assert.Contains(t, said.String(), want)
	}

	list, err = readTraces(dir, "crane", &said)
	require.NoError(t, err)
	assert.Len(t, list, 1)
	_, err = readTraces(dir, "nothing", &said)
	require.ErrorContains(t, err, "no trace of usage")
}

// TestSynthetic: the same seed gives the same; what steps there are is where the level changes; families differ.
func TestSynthetic(t *testing.T) {
	list, again := synthetic(1, 1), synthetic(1, 1)
	require.Len(t, list, 14)
	for i, trace := range list {
		s := trace.series[0]
		assert.Equal(t, s.usage, again[i].series[0].usage, trace.name)
		assert.True(t, s.known(), trace.name)
		for _, v := range s.usage {
			require.True(t, v >= 0 && v < 1e12, "%s: %v", trace.name, v)
		}
		for k, at := range s.steps {
			before, after := needed(s, at-1440, at, 0.5), needed(s, at+720, at+720+1440, 0.5) // memory is let go of slowly
			assert.Greater(t, math.Abs(after-before), 0.15*before, "%s, step %d: from %v to %v", trace.name, k, before, after)
		}
	}
}
