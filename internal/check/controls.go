package check

import "github.com/ekskms/ekskms/internal/finding"

// The frameworks, with the version whose IDs are used here.
const (
	cisEKS       = "CIS Amazon EKS Benchmark v1.7.0"
	cisAWS       = "CIS AWS Foundations Benchmark v3.0.0"
	fsbp         = "AWS Foundational Security Best Practices"
	securityHub  = "AWS Security Hub CSPM"
	nist         = "NIST SP 800-53 Rev. 5"
	pci3         = "PCI DSS v3.2.1"
	pci4         = "PCI DSS v4.0.1"
	controlTower = "AWS Control Tower"
)

const (
	cisSource  = "https://www.cisecurity.org/benchmark/amazon_web_services"
	nistSource = "https://csrc.nist.gov/pubs/sp/800/53/r5/upd1/final"
	hubSource  = "https://docs.aws.amazon.com/securityhub/latest/userguide/"
	ctSource   = "https://docs.aws.amazon.com/controltower/latest/controlreference/"
)

// The controls, each written once. That a control of NIST or PCI DSS belongs to a
// rule is what AWS Security Hub says of its own control beside it; where nobody
// says so, the rule marks it with inferred.
var (
	cis211 = finding.Control{Framework: cisEKS, ID: "2.1.1", Title: "Enable audit Logs", Source: cisSource}
	cis411 = finding.Control{Framework: cisEKS, ID: "4.1.1", Title: "Ensure that the cluster-admin role is only used where required", Source: cisSource}
	cis412 = finding.Control{Framework: cisEKS, ID: "4.1.2", Title: "Minimize access to secrets", Source: cisSource}
	cis413 = finding.Control{Framework: cisEKS, ID: "4.1.3", Title: "Minimize wildcard use in Roles and ClusterRoles", Source: cisSource}
	cis442 = finding.Control{Framework: cisEKS, ID: "4.4.2", Title: "Consider external secret storage", Source: cisSource}
	cis531 = finding.Control{Framework: cisEKS, ID: "5.3.1", Title: "Ensure Kubernetes Secrets are encrypted using Customer Master Keys (CMKs) managed in AWS KMS", Source: cisSource}
	cis541 = finding.Control{Framework: cisEKS, ID: "5.4.1", Title: "Restrict Access to the Control Plane Endpoint", Source: cisSource}
	cis542 = finding.Control{Framework: cisEKS, ID: "5.4.2", Title: "Ensure clusters are created with Private Endpoint Enabled and Public Access Disabled", Source: cisSource}

	eks1 = finding.Control{Framework: fsbp, ID: "EKS.1", Title: "EKS cluster endpoints should not be publicly accessible", Source: hubSource + "eks-controls.html#eks-1"}
	eks2 = finding.Control{Framework: fsbp, ID: "EKS.2", Title: "EKS clusters should run on a supported Kubernetes version", Source: hubSource + "eks-controls.html#eks-2"}
	eks3 = finding.Control{Framework: fsbp, ID: "EKS.3", Title: "EKS clusters should use encrypted Kubernetes secrets", Source: hubSource + "eks-controls.html#eks-3"}
	eks8 = finding.Control{Framework: fsbp, ID: "EKS.8", Title: "EKS clusters should have audit logging enabled", Source: hubSource + "eks-controls.html#eks-8"}
	kms1 = finding.Control{Framework: fsbp, ID: "KMS.1", Title: "IAM customer managed policies should not allow decryption actions on all KMS keys", Source: hubSource + "kms-controls.html#kms-1"}
	kms2 = finding.Control{Framework: fsbp, ID: "KMS.2", Title: "IAM principals should not have IAM inline policies that allow decryption actions on all KMS keys", Source: hubSource + "kms-controls.html#kms-2"}
	kms3 = finding.Control{Framework: fsbp, ID: "KMS.3", Title: "AWS KMS keys should not be deleted unintentionally", Source: hubSource + "kms-controls.html#kms-3"}
	kms4 = finding.Control{Framework: securityHub, ID: "KMS.4", Title: "AWS KMS key rotation should be enabled", Source: hubSource + "kms-controls.html#kms-4"}
	kms5 = finding.Control{Framework: fsbp, ID: "KMS.5", Title: "KMS keys should not be publicly accessible", Source: hubSource + "kms-controls.html#kms-5"}

	trail1 = finding.Control{Framework: fsbp, ID: "CloudTrail.1", Title: "CloudTrail should be enabled and configured with at least one multi-Region trail that includes read and write management events", Source: hubSource + "cloudtrail-controls.html#cloudtrail-1"}
	trail2 = finding.Control{Framework: fsbp, ID: "CloudTrail.2", Title: "CloudTrail should have encryption at-rest enabled", Source: hubSource + "cloudtrail-controls.html#cloudtrail-2"}
	trail3 = finding.Control{Framework: securityHub, ID: "CloudTrail.3", Title: "CloudTrail should be enabled", Source: hubSource + "cloudtrail-controls.html#cloudtrail-3"}
	trail4 = finding.Control{Framework: fsbp, ID: "CloudTrail.4", Title: "CloudTrail log file validation should be enabled", Source: hubSource + "cloudtrail-controls.html#cloudtrail-4"}
	watch5 = finding.Control{Framework: securityHub, ID: "CloudWatch.5", Title: "Ensure a log metric filter and alarm exist for CloudTrail configuration changes", Source: hubSource + "cloudwatch-controls.html#cloudwatch-5"}
	watch7 = finding.Control{Framework: securityHub, ID: "CloudWatch.7", Title: "Ensure a log metric filter and alarm exist for disabling or scheduled deletion of customer managed keys", Source: hubSource + "cloudwatch-controls.html#cloudwatch-7"}
	cis36  = finding.Control{Framework: cisAWS, ID: "3.6", Title: "Ensure rotation for customer-created symmetric CMKs is enabled", Source: cisSource}

	ctEKS1   = finding.Control{Framework: controlTower, ID: "CT.EKS.PR.1", Title: "Require an Amazon EKS cluster to be configured with public access disabled to the cluster Kubernetes API server endpoint", Source: ctSource + "eks-rules.html#ct-eks-pr-1-description"}
	ctEKS2   = finding.Control{Framework: controlTower, ID: "CT.EKS.PR.2", Title: "Require an Amazon EKS cluster to be configured with secret encryption using AWS Key Management Service (KMS) keys", Source: ctSource + "eks-rules.html#ct-eks-pr-2-description"}
	ctKMS1   = finding.Control{Framework: controlTower, ID: "CT.KMS.PR.1", Title: "Require any AWS KMS key to have rotation configured", Source: ctSource + "kms-rules.html#ct-kms-pr-1-description"}
	ctKMS3   = finding.Control{Framework: controlTower, ID: "CT.KMS.PR.3", Title: "Require an AWS Key Management Service key policy to have a statement that limits creation of AWS KMS grants to AWS services", Source: ctSource + "kms-rules.html#ct-kms-pr-3-description"}
	ctTrail1 = finding.Control{Framework: controlTower, ID: "CT.CLOUDTRAIL.PR.1", Title: "Require an AWS CloudTrail trail to have encryption at rest activated", Source: ctSource + "cloudtrail-rules.html#ct-cloudtrail-pr-1-description"}
	ctTrail2 = finding.Control{Framework: controlTower, ID: "CT.CLOUDTRAIL.PR.2", Title: "Require an AWS CloudTrail trail to have log file validation activated", Source: ctSource + "cloudtrail-rules.html#ct-cloudtrail-pr-2-description"}

	ac3   = finding.Control{Framework: nist, ID: "AC-3", Title: "Access Enforcement", Source: nistSource}
	ac5   = finding.Control{Framework: nist, ID: "AC-5", Title: "Separation of Duties", Source: nistSource}
	ac6   = finding.Control{Framework: nist, ID: "AC-6", Title: "Least Privilege", Source: nistSource}
	au2   = finding.Control{Framework: nist, ID: "AU-2", Title: "Event Logging", Source: nistSource}
	au9   = finding.Control{Framework: nist, ID: "AU-9", Title: "Protection of Audit Information", Source: nistSource}
	au11  = finding.Control{Framework: nist, ID: "AU-11", Title: "Audit Record Retention", Source: nistSource}
	au12  = finding.Control{Framework: nist, ID: "AU-12", Title: "Audit Record Generation", Source: nistSource}
	ia57  = finding.Control{Framework: nist, ID: "IA-5(7)", Title: "No Embedded Unencrypted Static Authenticators", Source: nistSource}
	sc7   = finding.Control{Framework: nist, ID: "SC-7", Title: "Boundary Protection", Source: nistSource}
	sc12  = finding.Control{Framework: nist, ID: "SC-12", Title: "Cryptographic Key Establishment and Management", Source: nistSource}
	sc121 = finding.Control{Framework: nist, ID: "SC-12(1)", Title: "Availability", Source: nistSource}
	sc122 = finding.Control{Framework: nist, ID: "SC-12(2)", Title: "Symmetric Keys", Source: nistSource}
	sc28  = finding.Control{Framework: nist, ID: "SC-28", Title: "Protection of Information at Rest", Source: nistSource}
	sc281 = finding.Control{Framework: nist, ID: "SC-28(1)", Title: "Cryptographic Protection", Source: nistSource}
	sc283 = finding.Control{Framework: nist, ID: "SC-28(3)", Title: "Cryptographic Keys", Source: nistSource}
	si2   = finding.Control{Framework: nist, ID: "SI-2", Title: "Flaw Remediation", Source: nistSource}
	si45  = finding.Control{Framework: nist, ID: "SI-4(5)", Title: "System-generated Alerts", Source: nistSource}
	si77  = finding.Control{Framework: nist, ID: "SI-7(7)", Title: "Integration of Detection and Response", Source: nistSource}

	pci144  = finding.Control{Framework: pci4, ID: "1.4.4", Title: "System components that store cardholder data are not directly accessible from untrusted networks", Source: hubSource + "eks-controls.html#eks-1"}
	pci374  = finding.Control{Framework: pci4, ID: "3.7.4", Title: "Cryptographic keys are changed at the end of their cryptoperiod", Source: hubSource + "kms-controls.html#kms-4"}
	pci364  = finding.Control{Framework: pci3, ID: "3.6.4", Title: "Cryptographic keys are changed at the end of their cryptoperiod", Source: hubSource + "kms-controls.html#kms-4"}
	pci1021 = finding.Control{Framework: pci4, ID: "10.2.1", Title: "Audit logs are enabled and active for all system components and cardholder data", Source: "https://www.pcisecuritystandards.org/document_library/"}
	pci101  = finding.Control{Framework: pci3, ID: "10.1", Title: "Implement audit trails to link all access to system components to each individual user", Source: hubSource + "cloudtrail-controls.html#cloudtrail-3"}
	pci34   = finding.Control{Framework: pci3, ID: "3.4", Title: "Render PAN unreadable anywhere it is stored", Source: hubSource + "cloudtrail-controls.html#cloudtrail-2"}
	pci1052 = finding.Control{Framework: pci3, ID: "10.5.2", Title: "Protect audit trail files from unauthorized modifications", Source: hubSource + "cloudtrail-controls.html#cloudtrail-4"}
	pci1055 = finding.Control{Framework: pci3, ID: "10.5.5", Title: "Use file-integrity monitoring or change-detection software on logs", Source: hubSource + "cloudtrail-controls.html#cloudtrail-4"}
)

func inferred(controls ...finding.Control) []finding.Control {
	for i := range controls {
		controls[i].Inferred = true
	}
	return controls
}
