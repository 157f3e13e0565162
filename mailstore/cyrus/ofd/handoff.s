// A package with a file of assembler may declare functions without a body: those of
// handoff.go are the runtime's.
