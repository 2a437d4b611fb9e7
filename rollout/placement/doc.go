// Package placement counts.
package placement
