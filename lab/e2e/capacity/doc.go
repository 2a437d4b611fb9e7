// Package capacity holds rollout/capacity to the real scheduler, and what it asks for to the real API server.
package capacity
