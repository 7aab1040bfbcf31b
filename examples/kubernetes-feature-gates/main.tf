# The feature gates of the Kubernetes API server as flags: each is served as it is by default in one Kubernetes release.
# Move the release and the plan shows what the upgrade would switch:
#
#   terraform apply
#   terraform plan -var kubernetes_version=1.37

terraform {
  required_providers {
    bunting = {
      source = "bunting-flags/bunting"
    }
  }
}

provider "bunting" {
  # Endpoint and token come from BUNTING_ENDPOINT and BUNTING_TOKEN.
  workspace = "kubernetes-feature-gates"
}

variable "kubernetes_version" {
  description = "The Kubernetes release, as major.minor."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.(0|[1-9][0-9]{0,2})$", var.kubernetes_version))
    error_message = "The Kubernetes version is \"${var.kubernetes_version}\", not a release as major.minor. Write one like \"1.33\"."
  }
}

locals {
  # A release as a number that sorts: 1.8 comes before 1.16.
  release = tonumber(split(".", var.kubernetes_version)[1])

  gates = yamldecode(file("${path.module}/feature-gates.yaml")).gates

  # For each gate, its stages up to this release, by the minor version that began them. All versions in the file are
  # 1.x, and no gate has two stages in one release.
  begun = {
    for gate in local.gates : gate.key => {
      for stage in gate.stages : tonumber(split(".", stage.version)[1]) => stage
      if tonumber(split(".", stage.version)[1]) <= local.release
    }
  }

  # The newest of them is in force. A gate without any does not exist yet.
  in_force = {
    for gate in local.gates : gate.key => merge(gate, local.begun[gate.key][max(keys(local.begun[gate.key])...)])
    if length(local.begun[gate.key]) > 0
  }
}

# On and off are told by `enabled`: an enabled gate serves its value (true), any other the default value (false). So
# killing a gate switches it off, whatever its stage.
resource "bunting_flag" "gate" {
  for_each = local.in_force

  key           = each.key
  type          = "bool"
  default_value = false
  value         = true
  enabled       = each.value.default

  description = each.value.description == "" ? null : each.value.description
  owner       = each.value.owner == "" ? null : each.value.owner
  tags        = [each.value.component]

  # Kubernetes does not let a locked gate be changed any more, and neither shall its flag be removed by accident.
  deletion_protection = each.value.locked
}

output "enabled_gates" {
  description = "The gates that are on in this release."
  value       = sort([for flag in bunting_flag.gate : flag.key if flag.enabled])
}
