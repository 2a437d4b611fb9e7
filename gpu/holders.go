package gpu

// Holders says who was given a device.
type Holders struct {
	Owners   []Owner // distinct, sorted
	Replicas int     // replicas of the device that they hold; 0 where the plugin does not replicate it
	Reserved bool    // a pod holds the device in place of others, which the kubelet does not name
}
