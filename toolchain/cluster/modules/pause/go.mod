module serving-estate/toolchain/cluster/pause

go 1.24.0
