package main

func draw(all []setting, list []*outcome, o options) error { return nil }
