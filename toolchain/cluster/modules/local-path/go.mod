module serving-estate/toolchain/cluster/local-path

go 1.23.0

tool github.com/rancher/local-path-provisioner

require github.com/rancher/local-path-provisioner v0.0.30
