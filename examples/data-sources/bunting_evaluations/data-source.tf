# Everything under a prefix, as one tenant gets it, in one request.
data "bunting_evaluations" "shop" {
  prefix    = "shop"
  entity_id = "acme"
}

# Flags by name, each of which must exist. While the server is down they are what it said last, and a warning says so.
data "bunting_evaluations" "fees" {
  flag_keys   = ["checkout/fee-percent", "checkout/free-shipping"]
  allow_stale = true
}

# All flags with these tags. It takes a token with the scope read.
data "bunting_evaluations" "checkout" {
  tags = ["checkout"]
}

output "theme_of_acme" {
  value = data.bunting_evaluations.shop.values["shop/theme"]
}

output "free_shipping" {
  value = data.bunting_evaluations.fees.values["checkout/free-shipping"]
}

output "killed" {
  value = [for key, source in data.bunting_evaluations.checkout.sources : key if source == "KILLED"]
}
