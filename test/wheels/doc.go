// Package wheels measures an index of many wheels.
package wheels
