# Everything under a prefix, as one tenant gets it, in one request.
data "bunting_evaluations" "checkout" {
  prefix    = "checkout"
  entity_id = "acme"
}

# Flags by name, each of which must exist. While the server is down they are what it said last, and a warning says so.
data "bunting_evaluations" "limits" {
  flag_keys   = ["shop/max-orders", "shop/max-users"]
  allow_stale = true
}

# All flags with both tags. It takes a token with the scope read.
data "bunting_evaluations" "web" {
  tags = ["web", "beta"]
}

output "checkout" {
  value = data.bunting_evaluations.checkout.values
}

output "max_orders" {
  value = data.bunting_evaluations.limits.values["shop/max-orders"]
}

output "killed" {
  value = [for key, source in data.bunting_evaluations.web.sources : key if source == "KILLED"]
}
