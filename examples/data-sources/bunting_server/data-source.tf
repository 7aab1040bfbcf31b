data "bunting_server" "this" {}

output "environment" {
  value = data.bunting_server.this.environment
}
