// What writes the list of a program's modules, for packaging/build alone: a module of its own, so that nothing of it comes
// near the product's go.mod.
module imapproxy/tools/sbom

go 1.26.7

require (
	github.com/CycloneDX/cyclonedx-go v0.9.2
	github.com/xeipuuv/gojsonschema v1.2.0
)

require (
	github.com/xeipuuv/gojsonpointer v0.0.0-20180127040702-4e3ac2762d5f // indirect
	github.com/xeipuuv/gojsonreference v0.0.0-20180127040603-bd5ef7bd5415 // indirect
)
