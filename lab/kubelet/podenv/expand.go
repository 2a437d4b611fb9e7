package podenv

import "strings"

// Expand replaces each $(NAME) in s by env[NAME], as Kubernetes does in env values, command and args: "$$" is a literal
// "$", so that "$$(NAME)" stays "$(NAME)"; an unknown name and an unclosed "$(" stay as they are.
func Expand(s string, env map[string]string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if strings.HasPrefix(after, "$") {
			out.WriteByte('$')
			s = after[1:]
			continue
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")")
		if !closed || !strings.HasPrefix(after, "(") {
			out.WriteByte('$')
			s = after
			continue
		}
		if value, known := env[name]; known {
			out.WriteString(value)
		} else {
			out.WriteString("$(" + name + ")")
		}
		s = rest
	}
}
