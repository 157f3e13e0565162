// Package operate holds the tests of a kpopd that is looked after while it
// serves: asked, reloaded, traced, ended.
package operate
