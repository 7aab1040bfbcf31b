# The flags for which a team answers, whoever manages them.
data "bunting_flags" "checkout" {
  prefix = "checkout"
  owner  = "team-checkout"
}

output "killed" {
  value = { for flag in data.bunting_flags.checkout.flags : flag.key => flag.holders if flag.killed }
}

# One override for each flag that has a tag.
data "bunting_flags" "beta" {
  tags = ["beta"]
}

resource "bunting_override" "beta_for_acme" {
  for_each  = toset(data.bunting_flags.beta.keys)
  flag_key  = each.key
  entity_id = "acme"
  value     = true
}
