# The flags for which a team answers, whoever manages them.
data "bunting_flags" "checkout" {
  prefix = "checkout"
  owner  = "team-checkout"
}

output "held" {
  value = { for flag in data.bunting_flags.checkout.flags : flag.key => flag.holders if flag.killed }
}

# An evaluation of each flag that has a tag.
data "bunting_flags" "tagged" {
  tags = ["checkout"]
}

data "bunting_evaluation" "tagged" {
  for_each = toset(data.bunting_flags.tagged.keys)
  flag_key = each.key
}

output "tagged" {
  value = { for key, evaluation in data.bunting_evaluation.tagged : key => evaluation.value }
}
