// Package managedfields reads metadata.managedFields: which fields of an object a manager has.
package managedfields

import "encoding/json"

// Own says whether fields in the form of fieldsV1 name a path, or something below it. What cannot be read names nothing.
func Own(fieldsV1 []byte, path []string) bool {
	for _, name := range path {
		var level map[string]json.RawMessage
		if err := json.Unmarshal(fieldsV1, &level); err != nil {
			return false
		}
		below, ok := level["f:"+name]
		if !ok {
			return false
		}
		if fieldsV1 = below; string(below) == "{}" {
			return true // an atomic field is owned as a whole
		}
	}
	return true
}
