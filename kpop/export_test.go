package kpop

// IndexLineDot is for its own test and benchmark.
var IndexLineDot = indexLineDot
