terraform {
  required_providers {
    bunting = {
      source = "bunting-flags/bunting"
    }
  }
}

provider "bunting" {
  # Where the flag server answers. Left out: BUNTING_ENDPOINT.
  endpoint = "https://flags.example.com"

  # A guard against applying to the wrong server: one of another name is refused.
  environment = "production"

  # Names this configuration as the owner of what it creates, so that an apply whose answer was lost converges when it
  # is repeated.
  workspace = "payments"

  # The token is not written here: it comes from BUNTING_TOKEN.
}
