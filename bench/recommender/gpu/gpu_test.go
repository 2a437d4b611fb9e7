package gpu

import (
	"os"
	"testing"
)

func TestShow(t *testing.T) {
	for _, d := range []string{"", os.Getenv("TRACES")} {
		r, err := Run(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Print(os.Stdout); err != nil {
			t.Fatal(err)
		}
	}
}
