// Stands in for a layer without sources.
